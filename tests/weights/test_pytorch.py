"""PyTorch's files: those of `torch.save` are read, all others are refused by name."""

import io
import os
import warnings
import zipfile

import numpy as np
import pytest
import weight_files as wf
from weight_files import Member, Ops, call, pt, tensor, value

from tinyrnn.errors import LoadError
from tinyrnn.weights import inspect_file, load_weights
from tinyrnn.weights.safetensors import DTYPES
from tinyrnn.weights.spec import FLOAT8

SIX = np.arange(6, dtype=np.float32)
DATA = {"0": SIX.tobytes()}


# What is read


def test_a_state_dict(load):
    got = load(pt({"b": tensor(), "a": tensor((3, 2))}, DATA))
    assert list(got) == ["b", "a"]
    assert np.array_equal(got["b"], SIX.reshape(2, 3)) and np.array_equal(got["a"], SIX.reshape(3, 2))


def test_arrays_are_fresh_owned_and_contiguous(load):
    got = load(pt({"a": tensor(), "tied": tensor(), "view": tensor((3, 2), (1, 3))}, DATA))
    got["a"][0, 0] = 99
    assert got["tied"][0, 0] == 0 and got["view"][0, 0] == 0
    for array in got.values():
        assert array.flags.owndata and array.flags.c_contiguous and array.flags.writeable
        assert array.dtype == np.float32


@pytest.mark.parametrize(
    "shape, strides, offset",
    [
        ((6,), (1,), 0),
        ((2,), (1,), 4),
        ((3, 2), (1, 3), 0),
        ((2, 2), (3, 1), 1),
        ((4, 6), (0, 1), 0),
        ((2, 2), (1, 1), 3),
        ((1, 6), (10**30, 1), 0),
        ((), (), 5),
        ((0,), (1,), 6),
        ((3, 0), (0, 10**30), 10**30),
    ],
)
def test_views(load, shape, strides, offset):
    got = load(pt({"v": tensor(shape, strides, offset, count=6)}, DATA))["v"]
    assert got.shape == shape and got.flags.owndata and got.flags.c_contiguous
    for index in np.ndindex(*shape):
        assert got[index] == SIX[offset + sum(i * s for i, s in zip(index, strides, strict=True))]


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
@pytest.mark.parametrize("order", ["little", "big", None])
def test_dtypes_and_byte_orders(load, dtype, order):
    numbers = np.array([[0, 1, 2], [3, 0, 100]]).astype(dtype)
    raw = numbers.astype(numbers.dtype.newbyteorder(">" if order == "big" else "<")).tobytes()
    got = load(pt({"w": tensor(dtype=dtype)}, {"0": raw}, byteorder=order and order.encode()))["w"]
    assert got.dtype == (np.float32 if numbers.dtype.kind == "f" else numbers.dtype)
    assert got.dtype.isnative and np.array_equal(got, numbers)


def test_bfloat16_is_the_upper_half(load):
    exact = np.array([[1, -2.5, np.inf], [-0.0, 1e-40, np.nan]], np.float32)
    raw = (exact.view(np.uint32) >> 16).astype("<u2").tobytes()
    got = load(pt({"w": tensor(dtype="BFloat16Storage")}, {"0": raw}))["w"]
    assert np.array_equal(got.view(np.uint32), exact.view(np.uint32) & 0xFFFF0000)


def test_float64_beyond_float32_is_inf_without_a_warning(load):
    raw = np.array([1e300, -1e300, 1e-300, np.nan, 1, 2]).tobytes()
    got = load(pt({"w": tensor((6,), dtype="float64")}, {"0": raw}))["w"]
    assert np.array_equal(got, np.array([np.inf, -np.inf, 0, np.nan, 1, 2], np.float32), equal_nan=True)


def test_a_bool_is_0_or_1_whatever_its_byte(load):
    got = load(pt({"w": tensor((3,), dtype="bool")}, {"0": b"\0\1\xff"}))["w"]
    assert got.view(np.uint8).tolist() == [0, 1, 1]


def test_untyped_storage_with_the_dtype_in_the_tensor(load):
    untyped = Ops(value(("storage", Ops(b"ctorch.storage\nUntypedStorage\n"), "0", "cpu", 24)) + b"Q")
    hooks = call("collections.OrderedDict")
    more = (untyped, 0, (12,), (1,), False, hooks, Ops(b"ctorch\nuint16\n"))
    got = load(pt({"w": call("torch._utils._rebuild_tensor_v3", *more)}, DATA))["w"]
    assert got.dtype == np.uint16 and got.tobytes() == SIX.tobytes()


def test_parameters_and_tensors_with_attributes(load):
    hooks = call("collections.OrderedDict")
    plain = (wf.storage("0", "float32", 6), 0, (6,), (1,), False, hooks)
    rebuild = Ops(b"ctorch._utils\n_rebuild_tensor_v2\n")
    thing = {
        "p": call("torch._utils._rebuild_parameter", tensor(), True, hooks),
        "s": call("torch._utils._rebuild_parameter_with_state", tensor(), True, hooks, {"tag": 1}),
        "t": call(
            "torch._tensor._rebuild_from_type_v2", rebuild, Ops(b"ctorch\nTensor\n"), plain, {"tag": 1}
        ),
        "z": call(
            "torch._utils._rebuild_tensor_v2", *plain[:2], call("torch.Size", (2, 3)), (3, 1), *plain[4:]
        ),
    }
    assert {name: array.shape for name, array in load(pt(thing, DATA)).items()} == {
        "p": (2, 3), "s": (2, 3), "t": (6,), "z": (2, 3),
    }  # fmt: skip


def test_metadata_of_an_ordered_dict_and_other_entries_are_skipped(load):
    entries = {"w": tensor(), "n": 3, "none": None, "cell._extra_state": call("collections.OrderedDict")}
    ops = (
        call("collections.OrderedDict")
        + value(entries)[1:]
        + value({"_metadata": {"": {"version": 1}}})
        + b"b"
    )
    assert list(load(pt(Ops(ops), DATA))) == ["w"]


def test_zip64_padding_and_archives_without_checksums(load):
    members = [
        Member("m/data.pkl", wf.pickled({"w": tensor()}), crc=0),
        Member("m/data/0", DATA["0"], zip64=True),
    ]
    assert np.array_equal(load(wf.zipped(*members, gap=40, end64=True))["w"].ravel(), SIX)


def test_an_empty_state_dict(load):
    assert load(pt(call("collections.OrderedDict"))) == {}


def test_objects_beside_weights_are_never_run(load):
    thing = {
        "state_dict": {"w": tensor()},
        "args": Ops(b"cargparse\nNamespace\n)\x81" + value({"lr": 0.1}) + b"b"),
        "best": call("numpy.core.multiarray.scalar", call("numpy.dtype", "f8", False, True), "x"),
        "seen": Ops(b"\x8f(K\x01K\x02\x90"),
        "frozen": Ops(b"(K\x01\x91"),
        "when": call("datetime.datetime", "x"),
        "where": call("torch.device", "cuda", 0),
        "by": call("collections.defaultdict", Ops(b"cbuiltins\nlist\n")),
        (1, 2): Ops(b"C\x02ab"),
        2**200: Ops(b"B\x02\0\0\0ab"),
    }
    assert list(load(pt(thing, DATA))) == ["w"]


# Which part of a checkpoint


SD = {"w": tensor()}


@pytest.mark.parametrize(
    "thing, key, names",
    [
        ({"state_dict": SD, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": tensor()}}}}, None, ["w"]),
        ({"model": SD, "step": tensor((), count=6), "optim": SD}, None, ["w"]),
        ({"model": SD, "model_state_dict": {"v": tensor()}}, None, ["v"]),
        ({"ema": SD, "lr": 0.1, "optimizer_state": SD, "scheduler": SD}, None, ["w"]),
        ({"checkpoint": {"model": SD}, "epoch": 1}, None, ["w"]),
        ({"encoder": SD, "decoder": {"v": tensor(), "n": 1}}, None, ["encoder.w", "decoder.v"]),
        ({"a": SD, "b": {"v": tensor()}, "epoch": 1}, "b", ["v"]),
        ({"nets": {"a": SD, "b.c": {"v": tensor()}}, "n": 1}, "nets.b.c", ["v"]),
        ({"nets": {0: SD, 1: {"v": tensor()}}, "n": 1}, "nets.1", ["v"]),
        ({"runs": {"a": {"state_dict": SD}}, "n": 1}, "runs.a", ["w"]),
        ({"config": {"n": 1}, "members": [SD, {"v": tensor()}], "meta": {}}, None, ["0.w", "1.v"]),
        ({"w": tensor(), "cell._extra_state": {"x": tensor()}}, None, ["w"]),
        ({"w": tensor(), "inner": {"v": tensor()}}, "", ["w"]),
        ({"w": tensor(), "inner": {"v": tensor()}}, "inner", ["v"]),
    ],
)
def test_where_the_weights_are(load, thing, key, names):
    assert list(load(pt(thing, DATA), key=key)) == names


@pytest.mark.parametrize(
    "thing, key, words",
    [
        ({"a": SD, "b": SD, "epoch": 1}, None, ["several", "key=", "a, b"]),
        ({"w": tensor(), "inner": SD}, None, ["several", "inner", 'key=""']),
        ({"a": SD, "b": SD}, "c", ["key: got 'c'", "a, b"]),
        ({"a": SD}, "a.b", ["key: got 'b'", "w"]),
        ({"a": SD}, "a.w", ["a tensor", "expected a dict"]),
        (tensor(), None, ["a tensor", "state_dict()"]),
        ([tensor()], None, ["a list", "state_dict()"]),
        (3, None, ["a int", "state_dict()"]),
        ({"epoch": 3, "lr": 0.1}, None, ["no tensors", "epoch, lr"]),
        ({1: tensor()}, None, ["named 1", "expected a string"]),
        ({"a": {"b.c": tensor()}, "a.b": {"c": tensor()}}, None, ["a.b.c", "twice"]),
    ],
)
def test_weights_that_cannot_be_found_are_a_helpful_error(refused, thing, key, words):
    refused(pt(thing, DATA), *words, key=key)


def test_a_dict_inside_itself_ends(refused):
    refused(pt(wf.pickled(Ops(b"}q\0" + value("model") + b"h\0s"))), "dicts deep")


# Programs of torch.export


def entry(shape=(2, 3), file="weight_0", **meta):
    def sizes(numbers):
        return [{"as_int": number} for number in numbers]

    told = {"dtype": 7, "sizes": sizes(shape), "strides": sizes(wf.row_major(shape)), "layout": 7}
    told |= {"storage_offset": {"as_int": 0}, "requires_grad": True, "device": {"type": "cpu", "index": None}}
    return {"path_name": file, "is_param": True, "use_pickle": False, "tensor_meta": told | meta}


def test_programs_of_export(load, refused):
    def program(config):
        return wf.program(config, {"weight_0": DATA["0"]})

    read = load(program({"w": entry(), "v": entry((3, 2), strides=[{"as_int": 1}, {"as_int": 3}])}))
    assert read["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and read["v"].tolist() == [[0, 3], [1, 4], [2, 5]]
    refused(program([]), "expected an object config")
    refused(program({"w": 1}), "w: expected a dense tensor")
    refused(program({"w": entry(dtype=99)}), "w: expected a dense tensor")
    refused(program({"w": entry(layout=1)}), "w: expected a dense tensor")
    refused(program({"w": entry() | {"use_pickle": True}}), "w: expected a dense tensor")
    refused(program({"w": entry(sizes=[{"as_expr": "s0"}, {"as_int": 3}])}), "size, stride and offset")
    refused(program({"w": entry((3, 3))}), "w: storage has 24 bytes, expected 36")
    refused(program({"w": entry(storage_offset={"as_int": 1})}), "w: storage has 24 bytes, expected 28")
    refused(program({"w": entry(file="../../x")}), "is missing from the archive")
    refused(
        program({"w": entry(dtype=33, sizes=[{"as_int": 24}], strides=[{"as_int": 1}])}), "float8_e8m0fnu"
    )
    twice = wf.program({}, {}, [Member("m/data/weights/b_weights_config.json", b"{}")])
    refused(twice, "2 lists of weights, expected one")


# Other kinds of files


def test_old_and_foreign_kinds_say_what_they_are(refused):
    refused(b"\x80\x04}.", "a pickle", "save it again")
    refused(b"sys_info".ljust(257, b"\0") + b"ustar" + bytes(300), "tar", "save it again")
    refused(b"hello, this is no model", "as torch.save writes it")
    refused(wf.zipped(Member("a/b.txt", b"x")), "0 data.pkl")
    refused(wf.zipped(Member("m/archive_format", b"pt2")), "PyTorch compiled (.pt2)", "model.state_dict()")
    refused(wf.zipped(Member("a/data.pkl", b"x"), Member("b/data.pkl", b"x")), "2 data.pkl")


@pytest.mark.parametrize(
    "name",
    ["__main__.Net", "torch.nn.modules.rnn.LSTM", "os.system", "builtins.eval", "torch.load", "posix.system"],
)
def test_any_other_name_is_an_error_that_quotes_it(refused, name):
    refused(pt(call(name, "x")), f'"{name}"', "model.state_dict()")
    module, _, attribute = name.rpartition(".")
    refused(pt(Ops(value(module) + value(attribute) + b"\x93")), f'"{name}"')


def test_nothing_is_imported_or_run(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(pt(call("os.system", "touch pwned")), "os.system")
    refused(pt(call("collections.OrderedDict.__init__", "x")), "OrderedDict.__init__")
    assert sorted(os.listdir(tmp_path)) == ["model.pt"]


# Hostile pickles


@pytest.mark.parametrize(
    "ops, words",
    [
        (b"\x80\x02}2.", ["opcode DUP", "byte 3"]),
        (b"\x80\x02ios\nsystem\n.", ["opcode INST"]),
        (b"\x80\x02(cos\nsystem\no.", ["opcode OBJ"]),
        (b"\x80\x02}}}\x92.", ["calls a dict with a dict"]),
        (b"\x80\x02\x82\1.", ["opcode EXT1"]),
        (b"\x80\x02P0\n.", ["opcode PERSID"]),
        (b"\x80\x02\x97.", ["opcode NEXT_BUFFER"]),
        (b"\x80\x02\xff.", ["opcode 0xff"]),
        (b"\x80\x01}.", ["protocol"]),
        (b"\x80\x06}.", ["protocol"]),
        (b"\x80\x02}\x80\x02.", ["protocol"]),
        (b"\x80\x02}", ["1 more bytes"]),
        (b"", ["1 more bytes"]),
        (b"\x80\x02.", ["stack"]),
        (b"\x80\x02}}.", ["left over"]),
        (b"\x80\x02(}.", ["left over"]),
        (b"\x80\x02}.x", ["left over"]),
        (b"\x80\x02N(0.", ["stack"]),
        (b"\x80\x02t.", ["mark"]),
        (b"\x80\x02h\0.", ["memo 0"]),
        (b"\x80\x02q\0.", ["stack"]),
        (b"\x80\x02NNs.", ["stack"]),
        (b"\x80\x02NNNs.", ["None"]),
        (b"\x80\x02}(Nu.", ["key without a value"]),
        (b"\x80\x02)Na.", ["a tuple"]),
        (b"\x80\x02]Nb.", ["a list"]),
        (b"\x80\x02}(N\x90.", ["a dict"]),
        (b"\x80\x02}NR.", ["calls a dict"]),
        (b"\x80\x02ccollections\nOrderedDict\n]R.", ["with a list"]),
        (b"\x80\x02ccollections\nOrderedDict\n]Na\x85R.", ["OrderedDict with other arguments"]),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", ["_rebuild_tensor_v2 with other"]),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.", ["_rebuild_parameter with other"]),
        (b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n)R.", ["_rebuild_from_type_v2 with other"]),
        (b"\x80\x02ctorch\nSize\n)R.", ["torch.Size with other"]),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", ["FloatStorage with other"]),
        (b"\x80\x02ctorch", ["no end"]),
        (b"\x80\x02NN\x93.", ["by None and None"]),
        (b"\x80\x04" + value("m" * 257) + value("n") + b"\x93.", ["more than 256 characters"]),
        (b"\x80\x02X\xff\xff\xff\xff.", ["4294967295 more bytes"]),
        (b"\x80\x02X\1\0\0\0\xff.", ["not UTF-8"]),
        (b"\x80\x02\x96\xff\xff\xff\xff\xff\xff\xff\xffx.", ["18446744073709551615 more bytes"]),
        (b"\x80\x04\x95\xff\0\0\0\0\0\0\0}.", ["frame"]),
        (b"\x80\x02NQ.", ["persistent id"]),
        (b"\x80\x02" + value(("storage", "x", "0", "cpu", 6)) + b"Q.", ["persistent id"]),
        (b"\x80\x02" + value(("module", "x", "0", "cpu", 6)) + b"Q.", ["persistent id"]),
        (b"\x80\x02" + wf.storage("0", "float32", -6) + b".", ["persistent id"]),
        (b"\x80\x02" + wf.storage("0", "float32", True) + b".", ["persistent id"]),
    ],
)
def test_malformed_pickles(refused, ops, words):
    refused(pt(bytes(ops), DATA), *words)


def test_bombs_of_opcodes_nesting_and_reference(load, refused):
    refused(pt(b"\x80\x02" + b"N" * 1_500_001), "1500000 opcodes")
    for one in (b"}", b"]", b"\x8f", b"ca\nb\n)\x81"):
        refused(pt(b"\x80\x02" + one * 180_001), "at most 180000 dicts, lists, sets and objects")
    deep = b"\x80\x02}" + value("x") + b")" + b"\x85" * 500_000 + b"s."
    refused(pt(deep), "no tensors")
    refused(pt(b"\x80\x02})" + b"\x85" * 500_000 + b"Ns."), "no tensors")  # as a key: it must not be hashed
    laughs = b"".join(b"}(K\1h%cK\2h%cuq%c0" % (i, i, i + 1) for i in range(60))
    refused(pt(b"\x80\x02}q\0000" + laughs + b"h<."), "no tensors")
    many = {str(i): Ops(b"h\1") for i in range(400)}
    inner = Ops(value({str(i): Ops(b"h\0") for i in range(400)}))
    flood = Ops(b"(" + tensor() + b"q\0" + inner + b"q\x011" + value(many))
    refused(pt(flood, DATA), "sets of weights with 160000 tensors")


# Hostile tensors


BIG = 1 << 62


@pytest.mark.parametrize(
    "entry, words",
    [
        (tensor((2, 4)), ["24 bytes", "expected 32"]),
        (tensor((2, 2)), ["24 bytes", "expected 16"]),
        (tensor((512, 128), count=6), ["storage has 24 bytes", "(512, 128) of float32", "expected 262144"]),
        (tensor((3, 2), (3, 1), count=6), ["24 bytes, expected 32"]),
        (tensor((6,), offset=1), ["24 bytes, expected 28"]),
        (tensor((6,), offset=-1), ["integers each"]),
        (tensor((6,), (-1,), offset=5), ["integers each"]),
        (tensor((-6,), count=6), ["integers each"]),
        (tensor((6.0,), (1,), count=6), ["integers each"]),
        (tensor((True,), (1,), count=6), ["integers each"]),
        (tensor((2, 3), (1,)), ["got 1 strides, expected 2"]),
        (tensor((BIG, BIG), (0, 0), count=6), ["more bytes than this machine"]),
        (tensor((0, BIG, BIG), (0, 0, 0), count=6), ["more bytes than this machine"]),
        (tensor((BIG,), (0,), count=6), ["more bytes than this machine"]),
        (tensor((2, 3), (10**300, 1)), ["storage has 24 bytes, expected"]),
        (tensor((6,), offset=10**300), ["storage has 24 bytes, expected"]),
        (tensor((1,) * 33, (1,) * 33, count=6), ["at most 32"]),
        (tensor((1 << 40,), (0,), count=6), ["4398046511104 bytes of memory", "for a file of"]),
        (tensor(key="7"), ["model/data/7", "missing"]),
        (tensor(key="../data.pkl"), ["missing"]),
        (tensor((3,), dtype="complex64"), ["dtype complex64 cannot be read"]),
        (tensor((6,), dtype="QInt32Storage"), ["dtype qint32 cannot be read"]),
        (tensor(more=({"neg": True},)), ["negative"]),
        (tensor(rebuild="_rebuild_sparse_tensor"), ["sparse"]),
        (tensor(rebuild="_rebuild_meta_tensor_no_storage"), ["without data"]),
        (call("torch._utils._rebuild_tensor_v2", None, 0, (6,), (1,), False, None), ["no storage"]),
        (tensor(rebuild="_rebuild_tensor_v3", dtype="FloatStorage", more=("x",)), None),
        (call("torch._utils._rebuild_tensor_v2",
              Ops(value(("storage", Ops(b"ctorch.storage\nUntypedStorage\n"), "0", "cpu", 24)) + b"Q"),
              0, (6,), (1,), False, None), ["storage has no dtype"]),
    ],
)  # fmt: skip
def test_hostile_tensors_are_named(load, refused, entry, words):
    data = pt({"lstm.weight_hh_l0": entry}, DATA)
    if words is None:
        assert np.array_equal(load(data)["lstm.weight_hh_l0"].ravel(), SIX)
    else:
        refused(data, *words)
        if "bytes of memory" not in words[0]:
            refused(data, "lstm.weight_hh_l0")


def test_one_storage_under_many_names_is_limited(refused):
    raw = bytes(4 << 20)
    names = {f"w{i}": Ops(b"h\0") for i in range(40)}
    ops = Ops(b"(" + tensor((1 << 20,)) + b"q\x001" + value(names))
    refused(pt(ops, {"0": raw}), "bytes of memory")


def test_names_fit_for_a_terminal(refused):
    refused(pt({"evil\x1b[2J\n": tensor((7,), count=6)}, DATA), r"evil\x1b[2J\n")
    refused(pt({"n" * 2000: tensor()}, DATA), "2000 characters")


# Hostile archives


def archive(*, gap=0, tail=b"", count=None, end64=False, pickle=None, **storage):
    first = Member("m/data.pkl", wf.pickled({"w": tensor()}), **(pickle or {}))
    return wf.zipped(
        first,
        Member("m/data/0", **{"data": DATA["0"], **storage}),
        gap=gap,
        tail=tail,
        count=count,
        end64=end64,
    )


@pytest.mark.parametrize(
    "data, words",
    [
        (archive(method=8), ["compressed", "expected it stored"]),
        (archive(pickle={"method": 8}), ["compressed"]),
        (archive(method=12), ["method 12"]),
        (archive(flags=1), ["encrypted"]),
        (archive(crc=1), ["m/data/0", "checksum", "damaged"]),
        (archive(size=28), ["got 24 stored bytes, expected 28"]),
        (archive(size=1 << 30, packed=1 << 30), ["overlap the zip directory"]),
        (archive(offset=1 << 30), ["begins at"]),
        (archive(offset=0), ["m/data/0", "differ in the name"]),
        (archive(offset=3), ["disagree"]),
        (archive(local_name="m/data/1"), ["differ in the name"]),
        (archive(tail=b"comment"), ["added to it"]),
        (archive() + b"x", ["added to it"]),
        (archive()[:-1], ["cut short"]),
        (archive()[: len(archive()) // 2], ["cut short"]),
        (archive(count=1), ["left after 1 records"]),
        (archive(count=3), ["record 2 of 3"]),
        (archive(count=40000, end64=True), ["record 2 of 40000 is missing"]),
        (wf.zipped(Member("m/data.pkl", b"."), Member("m/data.pkl", b".")), ["m/data.pkl", "twice"]),
        (pt({"w": tensor()}, DATA, byteorder=b"middle"), ["byteorder", "middle"]),
        (pt({"w": tensor()}, DATA, byteorder=b"x" * 200), ["byteorder", "200 bytes"]),
    ],
)  # fmt: skip
def test_hostile_archives(refused, data, words):
    refused(data, *words)


def test_members_that_overlap(refused):
    inner = wf.zipped(Member("m/data/1", b"1234"))
    outer = Member("m/data/0", inner[: inner.index(b"PK\1\2")])
    head = Member("m/data.pkl", wf.pickled({}))
    begin = (
        len(wf.zipped(head)) - len(wf.zipped(head)[wf.zipped(head).index(b"PK\1\2") :]) + 30 + len("m/data/0")
    )
    whole = wf.zipped(head, outer, Member("m/data/1", b"1234", offset=begin))
    refused(whole, "m/data/0 and m/data/1 overlap")


# The two commands


def test_inspect_lists_what_load_refuses(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pt({"state_dict": {"w": tensor(), "c": tensor((3,), dtype="complex64")}}, DATA))
    info = inspect_file(path)
    assert info.format == "PyTorch" and info.bytes == path.stat().st_size and info.metadata == {}
    assert info.tensors == [("w", "float32", (2, 3)), ("c", "complex64", (3,))]


def test_the_real_file(data_dir):
    one, other = (load_weights(data_dir / f"silero_vad_16k.{suffix}") for suffix in ("pt", "safetensors"))
    assert one.keys() == other.keys() and len(one) == 15
    assert all(np.array_equal(one[name], other[name]) for name in one)


# Against PyTorch itself


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_save(torch, tmp_path, protocol):
    gen = torch.Generator().manual_seed(1)
    base = torch.randn(6, 8, generator=gen)
    lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
    tensors = {
        **lstm.state_dict(),
        "base": base,
        "tied": base,
        "transposed": base.t(),
        "column": base[:, 3],
        "slice": base[2:4],
        "stepped": base[::2, 1::3],
        "expanded": base[0].expand(5, 8),
        "permuted": torch.randn(2, 3, 4, generator=gen).permute(2, 0, 1),
        "channels": torch.randn(2, 3, 4, 5, generator=gen).to(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "buffer": getattr(torch.nn, "Buffer", torch.nn.Parameter)(torch.ones(2)),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double() * 1e300,
        "count": torch.tensor(7),
        "bool": base > 0,
        "bytes": torch.arange(5, dtype=torch.uint8),
        "unsigned": torch.arange(5).to(getattr(torch, "uint16", torch.int16)),
        "short": torch.arange(5, dtype=torch.int16),
    }
    torch.save({"state_dict": tensors, "epoch": 3, "device": torch.device("cpu"), "np": np.float64(1)},
               tmp_path / "m.pth", pickle_protocol=protocol)  # fmt: skip
    got = load_weights(tmp_path / "m.pth")
    assert list(got) == list(tensors)
    for name, want in tensors.items():
        want = want.detach()
        want = want.float().numpy() if want.is_floating_point() else want.numpy()
        assert got[name].dtype == want.dtype and got[name].shape == want.shape, name
        assert got[name].tobytes() == np.ascontiguousarray(want).tobytes(), name


def test_torch_kinds_that_are_refused(torch, refused):
    def saved(thing):
        file = io.BytesIO()
        torch.save(thing, file)
        return file.getvalue()

    refused(saved(torch.optim.SGD([torch.ones(2)])), "torch.optim.sgd.SGD", "state_dict()")
    refused(saved({"w": torch.ones(2).to(torch.float8_e8m0fnu)}), "w: dtype float8_e8m0fnu cannot be read")
    refused(saved({"w": torch.ones(2, dtype=torch.complex64)}), "w: dtype complex64")
    refused(saved({"w": torch.ones(2, 2).to_sparse()}), "w: got a sparse tensor")
    refused(saved({"w": torch.ones(2, device="meta")}), "w: got a tensor without data")
    refused(saved(torch.ones(2)), "a tensor")


@pytest.mark.parametrize("name", FLOAT8)
def test_every_float_of_a_byte_is_pytorchs(torch, load, name):
    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
    buffer = io.BytesIO()
    torch.save({"w": codes.reshape(2, 128).t()}, buffer)
    wanted = codes.float().numpy().reshape(2, 128).T
    read = load(buffer.getvalue())["w"]
    assert read.dtype == np.float32 and np.array_equal(read, wanted, equal_nan=True)
    numbers = ~np.isnan(wanted)
    assert np.array_equal(np.signbit(read[numbers]), np.signbit(wanted[numbers]))
    code = next(code for code, dtype in DTYPES.items() if dtype == name)
    header = {"w": {"dtype": code, "shape": [256], "data_offsets": [0, 256]}}
    read = load_weights(io.BytesIO(wf.safetensors(header, bytes(range(256)))))["w"]
    assert np.array_equal(read, codes.float().numpy(), equal_nan=True)


def test_programs_give_the_tensors_of_their_state_dict(torch, tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.rnn = torch.nn.Linear(3, 2), torch.nn.LSTM(2, 4)
            self.narrow = torch.nn.Linear(3, 2).bfloat16()
            self.tied = self.first.weight
            self.register_buffer("counts", torch.arange(3))
            self.constant = torch.ones(2)

        def forward(self, x):
            return self.first(x) + self.constant + self.counts.sum()

    path, model = tmp_path / "m.pt2", Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (torch.ones(1, 3),)), path)
    if "archive_format" not in "".join(zipfile.ZipFile(path).namelist()):
        pytest.skip("an older PyTorch wrote programs otherwise")
    read, state = load_weights(path), model.state_dict()
    assert read.keys() == state.keys()
    for name, one in state.items():
        whole = one.float() if one.is_floating_point() else one
        assert np.array_equal(read[name], whole.numpy())
    with pytest.raises(LoadError, match="key: got 'a', expected none"):
        load_weights(path, key="a")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_compiled_module_that_was_saved_whole(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    model, path = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LSTM(2, 4)), tmp_path / "m.pt"
    torch.save(torch.compile(model), path, _use_new_zipfile_serialization=zipped)
    assert list(load_weights(path)) == list(model.state_dict())
    model[1] = torch.compile(model[1])
    torch.save({"net": model, "epoch": 3}, path, _use_new_zipfile_serialization=zipped)
    assert len(load_weights(path)) == 6


def test_python_reads_our_archives():
    """The builder itself is right: Python's zipfile accepts its archives."""
    with zipfile.ZipFile(io.BytesIO(pt({"w": tensor()}, DATA, gap=5, end64=True))) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 4
