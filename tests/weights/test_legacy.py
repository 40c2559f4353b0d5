"""PyTorch's format from before 1.6, and modules that were saved whole, as attackers write them."""

import json
import os

import numpy as np
import pytest
import weight_files as wf
from weight_files import Ops, call, legacy, tensor, value, whole_module

from tinyrnn.weights import inspect_file, load_weights, parts, pickles
from tinyrnn.weights.spec import Reader

SIX = np.arange(6, dtype=np.float32)
ONE = {"0": (6, SIX.tobytes())}
DATA = {"0": SIX.tobytes()}


# ---- the format from before 1.6


def test_a_file_from_before_1_6(load, tmp_path):
    got = load(legacy({"state_dict": {"b": tensor(), "a": tensor((3, 2))}, "epoch": 3}, ONE))
    assert list(got) == ["b", "a"]
    assert np.array_equal(got["b"], SIX.reshape(2, 3)) and np.array_equal(got["a"], SIX.reshape(3, 2))
    info = inspect_file(tmp_path / "model.pt")
    assert info.format == "PyTorch" and info.unread == [("epoch", "3")]


def test_what_older_versions_wrote(load):
    """Tensors of 0.1 to 0.3, dicts and texts of Python 2, storages of graphics cards, parts of storages."""
    old = call("torch._utils._rebuild_tensor", wf.storage("0", "float32", 6), 0, (2, 3), (3, 1))
    parameter = Ops(
        b"ctorch.nn.parameter\nParameter\n" + value((old,)) + b"R" + value({"_backward_hooks": 0}) + b"b"
    )
    part = ("storage", Ops(b"ctorch.cuda\nFloatStorage\n"), "0", "cuda:0", 6, ("1", 2, 3))
    view = call("torch._utils._rebuild_tensor", Ops(value(part) + b"Q"), 1, (2,), (1,))
    name = Ops(b"U\x05old_w")
    binary = Ops(b"U\x02\xff\xfe")
    pairs = [[name, old], ("p", parameter), ["view", view], ["none", None], ["x", binary]]
    got = load(legacy(call("collections.OrderedDict", pairs), ONE))
    assert list(got) == ["old_w", "p", "view"]
    assert np.array_equal(got["old_w"], SIX.reshape(2, 3)) and np.array_equal(got["p"], got["old_w"])
    assert np.array_equal(got["view"], [3, 4])


def test_classes_beside_their_source(load):
    """Whole modules of that time have their class beside its source text."""
    kind = Ops(value(("module", Ops(b"c__main__\nNet\n"), "net.py", "class Net: ...")) + b"Q")
    made = Ops(kind + b")\x81" + value({"_parameters": {"w": tensor()}, "_modules": {}}) + b"b")
    assert list(load(legacy(made, ONE))) == ["w"]


SOUND = legacy({"w": tensor()}, ONE)


@pytest.mark.parametrize(
    "data, words",
    [
        (legacy({"w": tensor()}, ONE, protocol=1002), ["protocol's version", "1001"]),
        (legacy({"w": tensor()}, ONE, protocol="x"), ["protocol's version"]),
        (legacy({"w": tensor()}, ONE, keys={}), ["storages' keys", "a list"]),
        (legacy({"w": tensor()}, ONE, keys=[0]), ["storages' keys", "texts"]),
        (legacy({"w": tensor()}, ONE, keys=["0", "0"]), ["storages' keys", "once"]),
        (legacy({"w": tensor()}, ONE, keys=["1"]), ["storages' keys", "mentions"]),
        (legacy({"w": tensor()}, {}), ["w: storage 0 is missing"]),
        (legacy({"w": tensor()}, {"0": (5, SIX.tobytes())}), ["storage 0: got 5 numbers, expected 6"]),
        (legacy({"w": tensor()}, {"0": (-1, SIX.tobytes())}), ["storage 0: got -1 numbers"]),
        (legacy({"w": tensor(count=1 << 70)}, {"0": (1 << 60, b"")}), ["got 1152921504606846976 numbers"]),
        (legacy({"w": tensor(count=1 << 60)}, {"0": (1 << 60, b"")}), ["storage 0 ends at byte"]),
        (legacy({"w": tensor()}, {"0": (6, SIX.tobytes()[:-1])}), ["storage 0 ends at byte"]),
        (legacy({"w": tensor()}, ONE, tail=b"x"), ["1 bytes are left over"]),
        (legacy({"w": tensor((7,), count=6)}, ONE), ["w: storage has 24 bytes, expected 28"]),
        (legacy(b"\x80\x02}"), ["the object's pickle, byte"]),
        (legacy(b"\x80\x02X\xff\xff\xff\x7f"), ["more than 67108864 bytes"]),
        (legacy(b"\x80\x02X\xff\xff\xff\x01"), ["the object's pickle, byte 2: needs"]),
        (SOUND[:20], ["the protocol's version"]),
        (SOUND[:-28], ["storage 0 needs bytes"]),
        (legacy(call("os.system", "touch pwned"), ONE, keys=[]), ["left over"]),
        (legacy(call("os.system", "touch pwned")), ['"os.system"', "never loaded", "state_dict()"]),
    ],
)
def test_hostile_files_from_before_1_6(refused, data, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(data, *words)
    assert os.listdir(tmp_path) == ["model.pt"]


@pytest.mark.parametrize(
    "view, words",
    [
        (("1", 4, 3), "ends at byte 28, expected at most 24"),
        (("1", 0, 1), "storage has 4 bytes, expected 8"),
        (("1", -1, 3), "persistent id"),
        (("1", 0, 1 << 80), "ends at byte"),
        (("1", 0), "persistent id"),
        ((1, 0, 2), "persistent id"),
        ("x", "persistent id"),
    ],
)
def test_hostile_parts_of_storages(refused, view, words):
    ident = Ops(value(("storage", Ops(b"ctorch\nFloatStorage\n"), "0", "cpu", 6, view)) + b"Q")
    refused(legacy({"w": call("torch._utils._rebuild_tensor", ident, 0, (2,), (1,))}, ONE), words)


def test_an_old_file_is_read_once(tmp_path, monkeypatch):
    """Its pickles do not tell where they end. Bytes read ahead are few, and the numbers are read once."""
    count = 1 << 20
    names = {f"w{i}": tensor((count // 8,), key=str(i), count=count // 8) for i in range(8)}
    data = legacy(names, {str(i): (count // 8, bytes(count // 2)) for i in range(8)})
    (tmp_path / "model.pt").write_bytes(data)
    done = []
    whole = Reader.read
    monkeypatch.setattr(Reader, "read", lambda *given: done.append(given[2]) or whole(*given))
    assert len(load_weights(tmp_path / "model.pt")) == 8
    assert sum(done) < 6 * pickles.BLOCK + 8 * 8 + 10_000


# ---- modules


def test_a_module_of_an_unknown_class(load):
    inner = whole_module({"weight": tensor(), "bias": None})
    net = whole_module({"w": tensor()}, {"rnn": inner, "none": None, "again": inner}, name="x")
    names = ["w", "rnn.weight", "again.weight"]
    assert list(load(wf.pt(net, DATA))) == names
    assert list(load(wf.pt({"net": net, "loss": whole_module({})}, DATA))) == names
    learner = Ops(b"cfastai.learner\nLearner\n)\x81" + value({"opt": 3, "model": net}) + b"b")
    assert list(load(wf.pt(learner, DATA))) == list(load(wf.pt(learner, DATA), "model")) == names
    assert list(load(wf.pt({"epoch": 3, "generator": net}, DATA), key="generator")) == names


def test_modules_that_contain_themselves_or_each_other(refused):
    head = Ops(b"c__main__\nNet\n)\x81q\0")
    attributes = value({"_parameters": {"w": tensor()}, "_modules": {"inner": Ops(b"h\0")}})
    refused(wf.pt(Ops(head + attributes + b"b"), DATA), "nested more than 100 levels")
    doubled = whole_module({"w": tensor()})
    for i in range(40):  # each contains the one before it twice: 2**40 names
        at = bytes([i])
        doubled = whole_module({}, {"a": Ops(doubled + b"q" + at), "b": Ops(b"h" + at)})
    refused(wf.pt(doubled, DATA), "the module has more than", "parts")
    long = whole_module({"w": tensor()})
    for _ in range(5):
        long = whole_module({}, {"n" * 300: long})
    refused(wf.pt(long, DATA), "characters, expected at most 1000")
    refused(wf.pt(whole_module({3: tensor()}), DATA), "a name is no string")


def test_a_set_of_buffers_that_many_modules_share(load, monkeypatch):
    """Each set is gone through once."""
    left_out = Ops(b"\x8f(" + b"".join(value(f"b{i}") for i in range(1000)) + b"\x90q\1")
    first = whole_module({"w": tensor()}, _buffers={"b1": tensor()}, _non_persistent_buffers_set=left_out)
    second = whole_module(
        {}, _buffers={"b2": tensor(), "c": tensor()}, _non_persistent_buffers_set=Ops(b"h\1")
    )
    made = []
    monkeypatch.setattr(
        parts, "frozenset", lambda names=(): made.append(1) or frozenset(names), raising=False
    )
    assert list(load(wf.pt(whole_module({}, {"x": first, "y": second}), DATA))) == ["x.w", "y.c"]
    assert len(made) == 2  # and that of the outer module, which has none


def test_objects_are_never_called_whatever_they_are(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shell = call("os.system", "touch pwned")
    thing = {
        "state_dict": {"w": tensor()},
        "a": shell,
        "b": Ops(b"c__builtin__\neval\n" + value(("1/0",)) + b"\x81"),
        "c": Ops(shell + value({"x": 1}) + b"b"),
        "d": Ops(shell + b"(" + value("k") + shell + b"u"),
        "e": Ops(shell + b"(" + shell + b"e"),
        "f": Ops(
            b"c__builtin__\ngetattr\n" + value((Ops(b"cos\nsystem\n"), "x")) + b"R" + value(("y",)) + b"R"
        ),
        "g": Ops(b"\x8b\x02\0\0\0ab"),
        "h": Ops(b"cos\nsystem\n" + value(("touch pwned",)) + value({}) + b"\x92"),
        shell: 1,
    }
    assert list(load(wf.pt(thing, DATA))) == ["w"]
    assert os.listdir(tmp_path) == ["model.pt"]
    left = dict(inspect_file(tmp_path / "model.pt").unread)
    assert left["a"] == left["c"] == left["h"] == "os.system" and left["b"] == "__builtin__.eval"


def test_the_list_of_what_is_left_is_bounded(load, tmp_path):
    names = {f"{i}" + "n" * 300: "v" * 300 for i in range(3000)}
    load(wf.pt({"w": tensor(), **names}, DATA))
    left = inspect_file(tmp_path / "model.pt").unread
    assert len(left) == parts.LISTED + 1 and left[-1] == ("...", "and 2000 more")
    assert len(json.dumps(left)) < 300 * parts.LISTED


def test_two_long_names_are_not_joined_again_and_again(refused):
    """Each name of an object joins module and attribute."""
    long = Ops(value("m" * 60_000) + b"q\0" + b"0")
    refused(wf.pt(Ops(long + b"h\0h\0\x93"), DATA), "more than 256 characters")


def test_pairs_become_a_dict_once(load):
    """Python 2's OrderedDict of one list of pairs, called many times."""
    pairs = Ops(value([[f"w{i}", None] for i in range(1000)]) + b"q\0" + b"0")
    again = b"".join(b"ccollections\nOrderedDict\nh\0\x85R0" for _ in range(3000))
    got = load(wf.pt(Ops(pairs + again + value({"w": tensor()})), DATA))
    assert list(got) == ["w"]


# ---- TorchScript


def script(root, constants=(), **more):
    members = [
        wf.Member("m/data.pkl", wf.pickled(root)),
        wf.Member("m/data/0", DATA["0"]),
        wf.Member("m/constants.pkl", wf.pickled(constants)),
        wf.Member("m/code/__torch__.py", b"import os", method=8),
    ]
    return wf.zipped(*members, *more.get("members", ()))


def scripted(**attributes):
    return Ops(b"c__torch__.net\nNet\n)\x81" + value(attributes) + b"b")


def test_a_torchscript_archive(load):
    inner = scripted(weight=tensor(), _flat_weights=[tensor()], training=True)
    got = load(
        script(
            scripted(rnn=inner, step=tensor((), count=6), sizes=call("torch.jit._pickle.build_intlist", [1]))
        )
    )
    assert list(got) == ["step", "rnn.weight"] and np.array_equal(got["rnn.weight"].ravel(), SIX)
    members = [wf.Member("m/constants/0", DATA["0"])]
    got = load(script(scripted(), (tensor(), 3, tensor((3, 2))), members=members))
    assert list(got) == ["CONSTANTS.c0", "CONSTANTS.c2"]


def test_hostile_torchscript(refused):
    refused(script(scripted(w=tensor(key="7"))), "w: m/data/7 is missing")
    refused(script(scripted(), (tensor(),)), "CONSTANTS.c0: m/constants/0 is missing")
    refused(script(3), "a int")
    refused(wf.zipped(wf.Member("m/constants.pkl", b"."), wf.Member("m/code/x.py", b"x")), "0 data.pkl")
    head = Ops(b"c__torch__.net\nNet\n)\x81q\0" + value({"w": tensor(), "inner": Ops(b"h\0")}) + b"b")
    refused(script(head), "nested more than 100 levels")
