"""Loop and Scan over steps, against ONNX Runtime."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from onnx_files import close, loaded, model, node, run

import tinyrnn as tr

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

STEPS, ROWS, INPUTS, HIDDEN = 9, 3, 4, 5


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHTS = {
    "Wi": numbers(3 * HIDDEN, INPUTS, seed=1) / 2,
    "Wh": numbers(3 * HIDDEN, HIDDEN, seed=2) / 2,
    "bi": numbers(3 * HIDDEN, seed=3),
    "bh": numbers(3 * HIDDEN, seed=4),
    "one": np.float32(1),
}
GRU = [
    node("Gemm", "xt Wi bi", "a", transB=1),
    node("Gemm", "h Wh bh", "b", transB=1),
    node("Split", "a", "ar az an", axis=1),
    node("Split", "b", "br bz bn", axis=1),
    node("Add", "ar br", "sr"),
    node("Sigmoid", "sr", "r"),
    node("Add", "az bz", "sz"),
    node("Sigmoid", "sz", "z"),
    node("Mul", "r bn", "rb"),
    node("Add", "an rb", "sn"),
    node("Tanh", "sn", "n"),
    node("Sub", "one z", "k"),
    node("Mul", "k n", "kn"),
    node("Mul", "z h", "zh"),
    node("Add", "kn zh", "new"),
]


def graph(nodes, inputs, outputs):
    """A body: names of its inputs, whose types follow from outside, and of its outputs."""
    value = onnx.helper.make_tensor_value_info
    kinds = {"cond": (9, []), "go": (9, []), **{name: (7, []) for name in ("i", "j", "next", "end")}}
    ports = [
        [value(name, *kinds.get(name, (1, None))) for name in names.split()] for names in (inputs, outputs)
    ]
    return onnx.helper.make_graph(nodes, "body", *ports)


SCAN_BODY = graph([*GRU, node("Identity", "new", "y1")], "h xt", "new y1")
LOOP_BODY = graph(
    [
        node("Gather", "x i", "xt", axis=0),
        *GRU,
        node("Identity", "cond", "go"),
        node("Identity", "new", "y1"),
    ],
    "i cond h",
    "go new y1",
)
BY_CONDITION = graph(
    [
        node("Gather", "x j", "xt", axis=0),
        *GRU,
        node("Add", "j unit", "next"),
        node("Cast", "next", "f", to=1),
        node("Cast", "end", "e", to=1),
        node("Less", "f e", "go"),
        node("Identity", "new", "y1"),
    ],
    "i cond j h end",
    "go next new end y1",
)
COUNTED = [
    node("Shape", "x", "s"),
    node("Gather", "s first", "count"),
    node("Gather", "s second", "rows"),
    node("Unsqueeze", "rows at", "r1"),
    node("Concat", "r1 size", "hs", axis=0),
    node("ConstantOfShape", "hs", "h0"),
]
CONSTANTS = {
    **WEIGHTS,
    "first": np.int64(0),
    "second": np.int64(1),
    "at": np.int64([0]),
    "last": np.int64([-1]),
    "begin": np.int64([-(2**62)]),
    "size": np.int64([HIDDEN]),
    "true": np.array(True),
    "half": np.full((1, HIDDEN), 0.5, np.float32),
    "We": numbers(1, 4 * HIDDEN, INPUTS, seed=5),
    "Re": numbers(1, 4 * HIDDEN, HIDDEN, seed=6),
    "Ws": numbers(INPUTS, HIDDEN, seed=7),
    "many": np.int64(STEPS),
    "most": np.int64(2**31 - 1),
    "unit": np.int64(1),
}
X = numbers(STEPS, ROWS, INPUTS, seed=9)


def built(nodes, outputs=("y",), shape=("steps", "rows", INPUTS), **inputs):
    used = {name for one in nodes for name in one.input}
    for one in nodes:
        for attribute in one.attribute:
            if attribute.name == "body":
                used |= {name for inner in attribute.g.node for name in inner.input}
    arrays = {name: array for name, array in CONSTANTS.items() if name in used}
    return model(nodes, {"x": shape, **inputs}, list(outputs), **arrays)


LOOPS = {
    "Scan": [*COUNTED, node("Scan", "h0 x", "hn y", body=SCAN_BODY, num_scan_inputs=1)],
    "Loop": [*COUNTED, node("Loop", "count true h0", "hn y", body=LOOP_BODY)],
    "Loop without condition": [*COUNTED, node("Loop", "count - h0", "hn y", body=LOOP_BODY)],
    "turned twice": [
        *COUNTED,
        node("Slice", "x last begin at last", "t"),
        node(
            "Scan",
            "h0 t",
            "hn r",
            body=SCAN_BODY,
            num_scan_inputs=1,
            scan_input_directions=[1],
            scan_output_directions=[1],
        ),
        node("Slice", "r last begin at last"),
    ],
    "turned without a state": [
        node(
            "Scan",
            "x",
            "y",
            body=graph([node("MatMul", "xt Ws", "y1")], "xt", "y1"),
            num_scan_inputs=1,
            scan_input_directions=[1],
            scan_output_directions=[1],
        ),
    ],
    "last state": [
        *COUNTED,
        node("Scan", "h0 x", "hn ys", body=SCAN_BODY, num_scan_inputs=1),
        node("Relu", "hn"),
    ],
    "batch first": [
        *COUNTED,
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node(
            "Scan",
            "h0 t",
            "hn yt",
            body=SCAN_BODY,
            num_scan_inputs=1,
            scan_input_axes=[1],
            scan_output_axes=[1],
        ),
        node("Transpose", "yt", perm=[1, 0, 2]),
    ],
    "constant start": [
        *COUNTED[:-1],
        node("Expand", "half hs", "h0"),
        node("Scan", "h0 x", "hn y", body=SCAN_BODY, num_scan_inputs=1),
    ],
    "start by an encoder": [
        node("LSTM", "x We Re", "e eh ec", hidden_size=HIDDEN),
        node("Squeeze", "eh at", "h0"),
        node("Scan", "h0 x", "hn y", body=SCAN_BODY, num_scan_inputs=1),
    ],
    "start by a layer": [
        node("ReduceMean", "x", "m", axes=[0], keepdims=0),
        node("MatMul", "m Ws", "h0"),
        node("Scan", "h0 x", "hn y", body=SCAN_BODY, num_scan_inputs=1),
    ],
    "a condition alone": [
        *COUNTED,
        node("Less", "first count", "any"),
        node("Loop", "- any first h0 count", "lj hn total y", body=BY_CONDITION),
    ],
    "a condition and a number": [
        *COUNTED,
        node("Loop", "most true first h0 count", "lj hn total y", body=BY_CONDITION),
    ],
    "a counter that is read": [
        *COUNTED,
        node("Loop", "- true first h0 count", "lj hn total ys", body=BY_CONDITION),
        node("Equal", "lj count", "same"),
        node("Where", "same ys hn"),
    ],
    "two of them": [
        *COUNTED,
        node("Tanh", "x", "x2"),
        node(
            "Scan",
            "h0 x x2",
            "hn y",
            body=graph(
                [node("Add", "xa xb", "xt"), *GRU, node("Identity", "new", "y1")], "h xa xb", "new y1"
            ),
            num_scan_inputs=2,
        ),
    ],
    "layers around": [
        *COUNTED,
        node("Tanh", "x", "x2"),
        node("Scan", "h0 x2", "hn ys", body=SCAN_BODY, num_scan_inputs=1),
        node("ReduceMax", "ys", "m", axes=[0], keepdims=0),
        node("Add", "m hn"),
    ],
    "a list": [
        *COUNTED,
        node("SequenceEmpty", "", "e", dtype=1),
        node("SplitToSequence", "x", "parts", axis=0, keepdims=0),
        node("SequenceLength", "parts", "length"),
        node(
            "Loop",
            "length true h0 e",
            "hn l",
            body=onnx.helper.make_graph(
                [
                    node("SequenceAt", "parts i", "xt"),
                    *GRU,
                    node("SequenceInsert", "li new", "lo"),
                    node("Identity", "cond", "go"),
                ],
                "body",
                [
                    onnx.helper.make_tensor_value_info("i", 7, []),
                    onnx.helper.make_tensor_value_info("cond", 9, []),
                    onnx.helper.make_tensor_value_info("h", 1, None),
                    onnx.helper.make_tensor_sequence_value_info("li", 1, None),
                ],
                [
                    onnx.helper.make_tensor_value_info("go", 9, []),
                    onnx.helper.make_tensor_value_info("new", 1, None),
                    onnx.helper.make_tensor_sequence_value_info("lo", 1, None),
                ],
            ),
        ),
        node("ConcatFromSequence", "l", axis=0, new_axis=1),
    ],
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name, tmp_path):
    found = built(LOOPS[name])
    (expected,) = run(found, X)
    net = loaded(found, tmp_path)
    y = net(X)
    assert y.shape == expected.shape
    close(y, expected)
    more = numbers(2 * STEPS, 2, INPUTS, seed=10)
    close(net(more), run(found, more)[0])
    if name in ("Scan", "Loop", "batch first", "constant start", "two of them", "a list"):
        stream = net.stream(batch=ROWS)
        assert np.array_equal(np.stack([stream.step(one) for one in X]), y)


def test_a_scan_of_rows(tmp_path):
    """In opset 8 the first axis of all is the batch, which the body does not see."""
    body = graph(
        [node("MatMul", "xt Ws", "a"), node("Add", "a h", "new"), node("Tanh", "new", "y1")], "h xt", "new y1"
    )
    nodes = [node("Scan", "- h0 x", "hn y", body=body, num_scan_inputs=1)]
    ports = {"x": ("rows", "steps", INPUTS), "h0": ("rows", HIDDEN)}
    found = model(nodes, ports, ["y", "hn"], 8, Ws=CONSTANTS["Ws"])
    h = numbers(ROWS, HIDDEN)
    y, last = run(found, X.swapaxes(0, 1).copy(), h)
    net = loaded(found, tmp_path)
    close(net(X, state={"delay.past": h[None]}), y.swapaxes(0, 1))
    close(net.last_state["delay.past"][0], last)
    with pytest.raises(tr.LoadError, match="has the lengths of rows"):
        nodes[0].input[0] = "l"
        loaded(model(nodes, {"l": (np.int64, "rows"), **ports}, ["y"], 8, Ws=CONSTANTS["Ws"]), tmp_path)


def test_the_number_of_steps_that_an_export_fixed(tmp_path):
    nodes = [node("Loop", "many true h0", "hn y", body=LOOP_BODY)]
    found = built([*COUNTED, *nodes], shape=(STEPS, "rows", INPUTS))
    net = loaded(found, tmp_path)
    close(net(X), run(found, X)[0])
    assert net(X[:4]).shape == (4, ROWS, HIDDEN)


def test_a_state_that_is_an_input_and_comes_back(tmp_path):
    nodes = [node("Scan", "h0 x", "hn y", body=SCAN_BODY, num_scan_inputs=1)]
    found = built(nodes, ["y", "hn"], h0=("rows", HIDDEN))
    h = numbers(ROWS, HIDDEN)
    expected, last = run(found, X, h)
    net = loaded(found, tmp_path)
    assert list(net.state_dict()) and [name for name, _ in net._leaves()].count("delay.") == 1
    close(net(X, state={"delay.past": h[None]}), expected)
    close(net.last_state["delay.past"][0], last)
    stream = net.stream(batch=ROWS)
    chunks = [stream.run(X[:4]), stream.run(X[4:])]
    assert np.array_equal(np.concatenate(chunks), net(X))
    apart = loaded(found, tmp_path, states=False)({"x": X, "h0": h})
    close(apart["y"], expected)
    close(apart["hn"], last)


def test_a_net_with_a_loop_is_saved_and_trains(tmp_path):
    net = loaded(built(LOOPS["Scan"]), tmp_path)
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(tr.load(tmp_path / "net.safetensors")(X), net(X))
    target = numbers(STEPS, ROWS, HIDDEN)
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), tr.MSELoss(), ROWS, STEPS)
    losses = [trainer.step(X, target) for _ in range(10)]
    assert losses[-1] < losses[0]


# ---- decoders ----------------------------------------------------------------------------------------------

SOUGHT = {
    "product": [
        node("Unsqueeze", "q unit", "q1"),
        node("MatMul", "q1 turned", "s"),
        node("Softmax", "s", "w", axis=-1),
        node("MatMul", "w e", "c1"),
        node("Squeeze", "c1 unit", "c"),
    ],
    "sum": [
        node("Unsqueeze", "q unit", "q1"),
        node("Add", "q1 e", "s"),
        node("Tanh", "s", "f"),
        node("MatMul", "f v", "g"),
        node("Softmax", "g", "w", axis=1),
        node("Mul", "w e", "m"),
        node("ReduceSum", "m unit", "c", keepdims=0),
    ],
}


@pytest.mark.parametrize("name", SOUGHT)
@pytest.mark.parametrize("is_loop", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_attention_of_a_decoder_in_a_loop(name, is_loop, fixed, tmp_path):
    """Each step of the decoder attends to all steps of another input, which has as many as it likes."""
    body = [
        node("MatMul", "h Q", "q"),
        *SOUGHT[name],
        node("MatMul", "zt I", "a"),
        node("MatMul", "c C", "b"),
        node("Add", "a b", "t"),
        node("Tanh", "t", "new"),
        node("Identity", "new", "y1"),
    ]
    if is_loop:
        whole = [node("Gather", "z i", "zt", axis=0), *body, node("Identity", "cond", "go")]
        nodes = [node("Shape", "z", "n"), node("Gather", "n first", "count")]
        nodes.append(node("Loop", "count true h0", "hn y", body=graph(whole, "i cond h", "go new y1")))
    else:
        nodes = [node("Scan", "h0 z", "hn y", body=graph(body, "h zt", "new y1"), num_scan_inputs=1)]
    encoder = [
        node("LSTM", "x We Re", "e0", hidden_size=HIDDEN),
        node("Squeeze", "e0 unit", "e1"),
        node("Transpose", "e1", "e", perm=[1, 0, 2]),
        node("Transpose", "e1", "turned", perm=[1, 2, 0]),
    ]
    constants = {key: CONSTANTS[key] for key in ("We", "Re")} | {"unit": np.int64([1])}
    constants |= {"Q": numbers(HIDDEN, HIDDEN), "I": numbers(3, HIDDEN), "C": numbers(HIDDEN, HIDDEN, seed=1)}
    constants |= {"h0": numbers(1, HIDDEN, seed=2).repeat(ROWS, 0)}
    constants |= {"v": numbers(HIDDEN, 1)} if name == "sum" else {}
    constants |= {key: CONSTANTS[key] for key in ("first", "true")} if is_loop else {}
    for steps, more in [(STEPS, 4)] if fixed else [(STEPS, 4), (3, 6)]:
        shapes = {"x": (steps if fixed else "steps", ROWS, INPUTS), "z": (more if fixed else "more", ROWS, 3)}
        found = model([*encoder, *nodes], shapes, ["y"], **constants)
        x, z = numbers(steps, ROWS, INPUTS), numbers(more, ROWS, 3, seed=1)
        close(loaded(found, tmp_path)({"x": x, "z": z}), run(found, x, z)[0])


# ---- scripts of PyTorch ----------------------------------------------------------------------------------


def scripted(module, inputs, names, outputs, axes):
    torch = pytest.importorskip("torch")
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch.jit.script(module.eval()),
            inputs,
            stream,
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return stream.getvalue()


def test_a_script_that_gathers_a_list(tmp_path):
    torch = pytest.importorskip("torch")
    from scripted_loops import Cell

    torch.manual_seed(0)
    inputs = (torch.zeros(STEPS, ROWS, 4), torch.zeros(ROWS, 6))
    axes = {"x": {0: "steps", 1: "rows"}, "h": {0: "rows"}}
    file = scripted(Cell(), inputs, ["x", "h"], ["y", "hn"], axes)
    h = numbers(ROWS, 6)
    expected, last = run(file, X, h)
    net = loaded(file, tmp_path)
    close(net(X, state={"delay.past": h[None]}), expected)
    close(net.last_state["delay.past"][0], last)


def test_a_script_of_two_states_and_the_last(tmp_path):
    torch = pytest.importorskip("torch")
    from scripted_loops import Last

    torch.manual_seed(0)
    file = scripted(Last(), (torch.zeros(ROWS, STEPS, 4),), ["x"], ["y"], {"x": {0: "rows", 1: "steps"}})
    (expected,) = run(file, X.swapaxes(0, 1).copy())
    close(loaded(file, tmp_path)(X), expected)


# ---- what cannot be --------------------------------------------------------------------------------------

WHOLE = graph(
    [
        node("Gather", "x i", "xt", axis=0),
        *GRU,
        node("MatMul", "new Ti", "q"),
        node("Mul", "q x", "p"),
        node("ReduceSum", "p zero", "u", keepdims=0),
        node("MatMul", "u Ws", "v"),
        node("Add", "v new", "w"),
        node("Identity", "cond", "go"),
        node("Identity", "w", "y1"),
    ],
    "i cond h",
    "go w y1",
)
ENDS = graph(
    [
        node("Gather", "x i", "xt", axis=0),
        *GRU,
        node("ReduceMax", "new", "m", axes=[1], keepdims=0),
        node("Less", "m one", "go"),
        node("Identity", "new", "y1"),
    ],
    "i cond h",
    "go new y1",
)
WRONG = {
    "a whole sequence": (
        [*COUNTED, node("Loop", "count true h0", "hn y", body=WHOLE)],
        r"Mul.*in a loop reads a step and the whole sequence that the loop goes over",
    ),
    "an end by a value": (
        [*COUNTED, node("Loop", "count true h0", "hn y", body=ENDS)],
        "may end before the last step",
    ),
    "backwards": (
        [
            *COUNTED,
            node("Scan", "h0 x", "hn y", body=SCAN_BODY, num_scan_inputs=1, scan_input_directions=[1]),
        ],
        "goes from the last step to the first",
    ),
    "a condition that ends before": (
        [
            *COUNTED,
            node("Sub", "count unit", "fewer"),
            node("Loop", "- true first h0 fewer", "lj hn total y", body=BY_CONDITION),
        ],
        "a loop runs more or less often than there are steps",
    ),
    "no condition": (
        [*COUNTED, node("Loop", "- true h0", "hn y", body=LOOP_BODY)],
        "takes no step of a sequence by its number",
    ),
    "another number of steps": (
        [*COUNTED, node("Loop", "second true h0", "hn y", body=LOOP_BODY)],
        "a loop runs more or less often than there are steps",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be(name, tmp_path):
    nodes, message = WRONG[name]
    CONSTANTS.setdefault("Ti", numbers(HIDDEN, INPUTS))
    CONSTANTS.setdefault("zero", np.int64([0]))
    with pytest.raises(tr.LoadError, match=message):
        loaded(built(nodes), tmp_path)
