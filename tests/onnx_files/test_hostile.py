"""Damaged and hostile ONNX files: an error that names the file and the place, never anything else."""

from __future__ import annotations

import numpy as np
import pytest
from good_graphs import LSTM, good, zeros
from memory import within
from onnx_files import loaded, model, node

import tinyrnn as tr
from tinyrnn.onnx import wire

onnx = pytest.importorskip("onnx")


def test_good_files_are_good(tmp_path):
    for data in good().values():
        loaded(data, tmp_path)


# ---- the wire format ---------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def field(number: int, content: bytes | int) -> bytes:
    """A field of a message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


HEAD = field(1, 8) + field(8, field(2, 17))


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (b"\x80" * 30, "has more than ten bytes"),
        (b"\x80\x80", "a number begins at byte"),
        (b"\x0a\xff\xff\xff\xff\x0f", "needs 4294967295 bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "got field 0 of wire type 2"),
        (b"\x08\x01", "Graph.nodes: got wire type 0"),
        (field(2, b"\xff\xfe"), "no UTF-8"),
        (field(2, b"a" * 2000), "got 2000 characters"),
        (field(5, field(1, 1 << 62) + field(2, 1)), "needs more bytes than this machine can address"),
        (field(5, field(1, (1 << 64) - 5) + field(2, 1)), "has the dimension -5"),
        (field(5, field(1, 3) + field(2, 1) + field(9, b"1234")), "got 4 bytes, expected 12"),
        (field(5, field(1, 3) + field(2, 1) + field(4, b"1234")), "got 1 numbers, expected 3"),
        (field(5, field(1, 3) + field(2, 8)), "dtype 8 cannot be read"),
        (field(5, field(2, 1) + field(14, 1)), "in another file"),
        (
            field(5, field(2, 1) + field(13, field(1, b"location") + field(2, b"../secret"))),
            r"in another file, \.\./secret, which is never opened",
        ),
        (field(5, field(2, 1) + field(9, b"1234")) * 2, "occurs twice"),
        (field(1, field(4, b"Relu") + field(2, b"a")) * 2, "writes a, which is there already"),
        (field(15, b""), "sparse tensors"),
        (field(12, field(1, b"y")), "the graph: reads y, which nothing writes before"),
    ],
)
def test_a_damaged_graph(graph, words, tmp_path):
    with pytest.raises(tr.LoadError, match=rf"model\.onnx: .*{words}"):
        loaded(HEAD + field(7, graph), tmp_path)


def test_messages_within_messages(tmp_path):
    graph = b""
    for _ in range(40):
        graph = field(
            1, field(4, b"If") + field(5, field(1, b"then_branch") + field(20, 5) + field(6, graph))
        )
    with pytest.raises(tr.LoadError, match="messages within each other"):
        loaded(HEAD + field(7, graph), tmp_path)


def test_more_messages_than_memory(tmp_path):
    data = HEAD + field(7, field(1, field(4, b"Relu")) * 200_000)
    with within(2 * len(data) + (64 << 20)), pytest.raises(tr.LoadError, match="or more than 50000 in all"):
        loaded(data, tmp_path)


@pytest.mark.parametrize(
    "graph",
    [
        b"".join(
            field(5, field(1, 1) + field(2, 1) + field(8, b"t%d" % i) + field(9, b"1234"))
            for i in range(49_990)
        ),
        field(1, field(4, b"Relu") + field(5, field(1, b"k") + field(20, 8) + field(9, b"a") * 250_000)),
    ],
    ids=["tensors", "texts"],
)
def test_many_small_things_take_little_memory(graph, tmp_path):
    data = HEAD + field(7, graph)
    with within(2 * len(data) + (64 << 20)), pytest.raises(tr.LoadError):
        loaded(data, tmp_path)


def test_no_graph(tmp_path):
    with pytest.raises(tr.LoadError, match="holds no graph"):
        loaded(HEAD, tmp_path)
    with pytest.raises(tr.LoadError, match="no version of ONNX's operators"):
        loaded(field(1, 8) + field(7, b""), tmp_path)


# ---- graphs -----------------------------------------------------------------------------------------------


def refused(nodes, words, folder, inputs=None, **constants):
    with pytest.raises(tr.LoadError, match=rf"model\.onnx: .*{words}"):
        loaded(model(nodes, inputs or {"x": ("rows", 4)}, ["y"], **constants), folder)


def test_graphs_that_cannot_be(tmp_path):
    refused([node("Relu", "y", "x2"), node("Relu", "x2")], "reads y, which nothing writes", tmp_path)
    refused(
        [node("Gather", "s i", "a"), node("Add", "x a")],
        "index beyond",
        tmp_path,
        s=zeros(3),
        i=np.int64([9]),
    )
    refused([node("Reshape", "x s")], r"shape is \[3, 5, 7\], expected", tmp_path, s=np.int64([3, 5, 7]))
    refused(
        [node("LSTM", "x W R", hidden_size=3)],
        "R has shape",
        tmp_path,
        {"x": ("t", "b", 4)},
        W=LSTM["W"][:1],
        R=zeros(1, 8, 2),
    )
    refused(
        [node("LSTM", "x W R", hidden_size=7)],
        "hidden_size is 7, but R has shape",
        tmp_path,
        {"x": ("t", "b", 4)},
        W=LSTM["W"][:1],
        R=LSTM["R"][:1],
    )
    refused([node("MatMul", "x V")], "meets 4 numbers", tmp_path, V=zeros(5, 2))
    refused([node("Conv", "x C")], "got 2 \\+ 0 numbers", tmp_path, {"x": ("rows", 4, 2)}, C=zeros(5, 4, 3))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "big", "a"), node("ReduceSum", "a", "b", keepdims=0), node("Add", "x b")],
        [node("Expand", "one big", "a"), node("ReduceSum", "a", "b", keepdims=0), node("Add", "x b")],
        [node("Tile", "one rep", "a"), node("ReduceSum", "a", "b", keepdims=0), node("Add", "x b")],
        [
            node("Unsqueeze", "row u1", "r"),
            node("Unsqueeze", "row u0", "q"),
            node("Mul", "r q", "a"),
            node("ReduceSum", "a", "b", keepdims=0),
            node("Add", "x b"),
        ],
        [
            *(node("Concat", f"a{i} a{i}", f"a{i + 1}", axis=0) for i in range(40)),
            node("ReduceSum", "a40", "b", keepdims=0),
            node("Add", "x b"),
        ],
        [node("Range", "zero lots step", "a"), node("ReduceSum", "a", "b", keepdims=0), node("Add", "x b")],
        [node("Range", "zero some step", "a"), node("ReduceSum", "a", "b", keepdims=0), node("Add", "x b")],
        [
            node("ConstantOfShape", "much", "a"),
            node("Cast", "a", "b", to=7),
            node("Cast", "b", "c", to=1),
            node("ReduceSum", "c", "d", keepdims=0),
            node("Add", "x d"),
        ],
    ],
    ids=["filled", "expanded", "tiled", "broadcast", "doubled", "range", "range that fits", "cast"],
)
def test_constants_that_would_fill_the_memory(nodes, tmp_path):
    constants = {
        "big": np.int64([1 << 20, 1 << 20]),
        "one": zeros(1, 1),
        "rep": np.int64([1 << 20, 1 << 20]),
        "row": zeros(20000),
        "u0": np.int64([0]),
        "u1": np.int64([1]),
        "a0": zeros(1000),
        "zero": np.int64(0),
        "lots": np.int64(1 << 40),
        "step": np.int64(1),
        "some": np.int64((8 << 20) - 1000),
        "much": np.int64([(8 << 20) - 3000]),
    }
    used = {name for one in nodes for name in one.input}
    data = model(
        nodes, {"x": ("rows", 4)}, ["y"], **{key: one for key, one in constants.items() if key in used}
    ).SerializeToString()
    with (
        within(2 * len(data) + (64 << 20)),
        pytest.raises(tr.LoadError, match="need more memory than a file of its size may take"),
    ):
        loaded(data, tmp_path)


def test_more_axes_than_an_array_has(tmp_path):
    sizes = np.ones(60, np.int64)
    nodes = [node("Expand", "one sizes", "a"), node("Add", "x a")]
    refused(nodes, "got 60 sizes, expected at most 32", tmp_path, one=zeros(1), sizes=sizes)


def test_a_node_of_very_many_inputs_counts_as_several(tmp_path):
    refused([node("Sum", " ".join(["x"] * 100_000))], "got more than 20000 operations", tmp_path)


def test_inputs_that_are_not_settled_soon(tmp_path):
    names = [f"h{i}" for i in range(700)]
    nodes = [node("Add", f"x {name}", f"{name}n") for name in names] + [node("Relu", "x")]
    found = model(nodes, dict.fromkeys(["x", *names], ("rows", 4)), ["y", *(f"{name}n" for name in names)])
    with pytest.raises(tr.LoadError, match="after 200000 visits|more than 20000 operations"):
        loaded(found, tmp_path)


def test_possible_states_that_would_fill_the_memory(tmp_path):
    names = [f"h{i}" for i in range(64)]
    nodes = [node("Add", f"x {name}", f"{name}n") for name in names] + [node("Relu", "x")]
    inputs = {"x": ("rows", 4), **dict.fromkeys(names, ("rows", 1 << 20))}
    found = model(nodes, inputs, ["y", *(f"{name}n" for name in names)])
    with (
        within(64 << 20),
        pytest.raises(tr.LoadError, match="possible states have more than 3145728 numbers"),
    ):
        loaded(found, tmp_path)


def test_many_nodes_in_a_row_and_side_by_side(tmp_path):
    row = [node("Relu", f"a{i}", f"a{i + 1}") for i in range(3000)]
    net = loaded(model(row, {"a0": ("rows", 4)}, ["a3000"]), tmp_path)
    assert np.array_equal(net(np.float32([[1, -2, 3, -4]])), [[1, 0, 3, 0]])
    fan = [node("Relu", "a", f"b{i}") for i in range(1500)]
    fan.append(node("Sum", " ".join(f"b{i}" for i in range(1500))))
    net = loaded(model(fan, {"a": ("rows", 4)}, ["y"]), tmp_path)
    assert np.array_equal(net(np.float32([[1, -2, 3, -4]])), [[1500, 0, 4500, 0]])


def test_the_reader_agrees_with_the_package():
    """Whatever the package reads, as it reads it."""
    for data in good().values():
        own, theirs = wire.parse(memoryview(data), ValueError), onnx.load_from_string(data)
        assert [one.op for one in own.graph.nodes] == [one.op_type for one in theirs.graph.node]
        for tensor in theirs.graph.initializer:
            assert np.array_equal(own.graph.tensors[tensor.name].array(), onnx.numpy_helper.to_array(tensor))
