"""JSON files of RTNeural, of the trainers of guitar amplifiers, and of tensors by name."""

import json
import os

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.weights import inspect_file, jsons

RNG = np.random.default_rng(13)


def drawn(*shape):
    return RNG.uniform(-0.7, 0.7, shape).round(5)


def listed(thing):
    """The thing with lists in place of arrays."""
    if isinstance(thing, dict):
        return {name: listed(value) for name, value in thing.items()}
    return (
        [listed(item) for item in thing]
        if isinstance(thing, list)
        else getattr(thing, "tolist", lambda: thing)()
    )


def written(tmp_path, thing, name="m.json"):
    path = tmp_path / name
    path.write_text(thing if isinstance(thing, str) else json.dumps(listed(thing)))
    return path


def modeled(inputs, hidden, levels):
    """A file of Neural Amp Modeler, its arrays by level (matrix, bias, h, c), and those of the last layer."""
    levels = [
        (
            drawn(4 * hidden, (hidden if i else inputs) + hidden),
            drawn(4 * hidden),
            drawn(hidden),
            drawn(hidden),
        )
        for i in range(levels)
    ]
    head = drawn(hidden), drawn(1)
    config = {"input_size": inputs, "hidden_size": hidden, "num_layers": len(levels)}
    weights = np.concatenate([one.ravel() for one in (*(one for level in levels for one in level), *head)])
    about = {"version": "0.5.1", "architecture": "LSTM", "sample_rate": 48000}
    return about | {"config": config, "weights": weights.tolist()}, levels, head


@pytest.mark.parametrize("inputs, hidden, levels", [(1, 3, 2), (2, 4, 1)])
def test_an_lstm_of_neural_amp_modeler(tmp_path, inputs, hidden, levels):
    file, levels, head = modeled(inputs, hidden, levels)
    path = written(tmp_path, file, "m.nam")
    x = drawn(50, inputs).astype(np.float32)
    states, expected = [[h, c] for _, _, h, c in levels], []
    for row in x:  # the formula, in float64
        value = row.astype(np.float64)
        for (matrix, bias, *_), state in zip(levels, states, strict=True):
            i, f, g, o = np.split(matrix @ np.concatenate([value, state[0]]) + bias, 4)
            i, f, o = (1 / (1 + np.exp(-one)) for one in (i, f, o))
            state[1] = f * state[1] + i * np.tanh(g)
            state[0] = value = o * np.tanh(state[1])
        expected.append(head[0] @ value + head[1])
    net = tr.load(path)
    np.testing.assert_allclose(net(x), expected, atol=2e-6)
    net.save(tmp_path / "m.safetensors")
    assert np.array_equal(tr.load(tmp_path / "m.safetensors")(x), net(x))
    assert inspect_file(path).metadata["sample_rate"] == "48000"


def layer(kind, size, *weights, activation="", **more):
    return {
        "type": kind,
        "activation": activation,
        "shape": [None, None, size],
        **more,
        "weights": list(weights),
    }


def rtneural(inputs, *layers, **more):
    return {"in_shape": [None, None, inputs], "layers": list(layers), **more}


# ---- what Keras' layers compute, in float64 and in Keras' layouts


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


FUNCTIONS = {
    "": lambda x: x,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "softmax": softmax,
    "tanh": np.tanh,
}


def keras_lstm(x, w, u, b):
    h, c, out = np.zeros(len(u)), np.zeros(len(u)), []
    for frame in x:
        i, f, g, o = np.split(frame @ w + h @ u + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


def keras_gru(x, w, u, b):
    h, out = np.zeros(len(u)), []
    for frame in x:
        xz, xr, xh = np.split(frame @ w + b[0], 3)
        hz, hr, hh = np.split(h @ u + b[1], 3)
        z = sigmoid(xz + hz)
        h = z * h + (1 - z) * np.tanh(xh + sigmoid(xr + hr) * hh)
        out.append(h)
    return np.array(out)


def keras_conv1d(x, w, b, dilation, groups):
    kernel, inputs, outputs = len(w), x.shape[1] // groups, w.shape[2] // groups
    out = np.tile(b, (len(x), 1))
    for t in range(len(x)):
        for k in range(kernel):
            at = t - (kernel - 1 - k) * dilation
            for g in range(groups if at >= 0 else 0):
                own = slice(g * outputs, (g + 1) * outputs)
                out[t, own] += x[at, g * inputs : (g + 1) * inputs] @ w[k, :, own]
    return out


def computed(x, file):
    for one in file["layers"]:
        w = one["weights"]
        match one["type"]:
            case "dense" | "time-distributed-dense":
                x = x @ w[0] + (w[1] if len(w) > 1 else 0)
            case "lstm":
                x = keras_lstm(x, *w)
            case "gru":
                x = keras_gru(x, *w)
            case "conv1d":
                x = keras_conv1d(x, *w, one["dilation"][0], one.get("groups", 1))
            case "prelu":
                x = np.where(x > 0, x, w[0][0] * x)
            case "batchnorm":
                gamma, beta, mean, variance = w if len(w) == 4 else (1, 0, *w)
                x = gamma * (x - mean) / np.sqrt(variance + one["epsilon"]) + beta
        if one["type"] not in ("lstm", "gru"):
            x = FUNCTIONS[one["activation"]](x)
    return x


def lstm(inputs, size):
    return layer(
        "lstm", size, drawn(inputs, 4 * size), drawn(size, 4 * size), drawn(4 * size), activation="tanh"
    )


def gru(inputs, size):
    return layer("gru", size, drawn(inputs, 3 * size), drawn(size, 3 * size), drawn(2, 3 * size))


def dense(inputs, size, activation="", kind="dense"):
    return layer(kind, size, drawn(inputs, size), drawn(size), activation=activation)


def conv1d(inputs, size, kernel, dilation, groups=1, **more):
    weights = drawn(kernel, inputs // groups, size), drawn(size)
    return layer("conv1d", size, *weights, kernel_size=[kernel], dilation=[dilation], groups=groups, **more)


NETS = {
    "amplifier": rtneural(1, lstm(1, 8), dense(8, 1)),
    "two levels": rtneural(2, lstm(2, 4), lstm(4, 3), dense(3, 2)),
    "gru": rtneural(1, dense(1, 8, "tanh", "time-distributed-dense"), gru(8, 5), dense(5, 2, "sigmoid")),
    "convolutions": rtneural(
        3,
        conv1d(3, 4, 3, 2, activation="tanh"),
        layer("batchnorm", 4, drawn(4), drawn(4), drawn(4), drawn(4) + 1, epsilon=0.001),
        layer("prelu", 4, drawn(1, 4)),
        conv1d(4, 6, 2, 3, groups=2),
        layer("batchnorm", 6, drawn(6), drawn(6) + 1, epsilon=1e-5),
        layer("prelu", 6, drawn(1, 1)),
        conv1d(6, 2, 1, 1, activation="relu"),
    ),
    "activations": rtneural(
        3,
        layer("dense", 4, drawn(3, 4)),
        *(part for name in FUNCTIONS for part in (layer("activation", 4, activation=name), dense(4, 4))),
    ),
}


@pytest.mark.parametrize("kind", NETS)
def test_rtneural_computes_what_keras_does(tmp_path, kind):
    file = NETS[kind]
    net = tr.load(written(tmp_path, file))
    x = drawn(30, file["in_shape"][-1])
    y = computed(x, file)
    assert np.abs(y).max() > 0.1
    out = net(x.astype(np.float32))
    assert np.allclose(out, y, atol=2e-6)
    stream = net.stream()
    assert np.array_equal([stream.step(frame) for frame in x.astype(np.float32)], out)


def test_gains_and_the_input_that_is_added(tmp_path):
    file = rtneural(2, gru(2, 4), dense(4, 1), in_skip=1, in_gain=-6.0, out_gain=3)
    net = tr.load(written(tmp_path, file, "m.aidax"))
    x = drawn(20, 2)
    scaled = x * 10 ** (-6 / 20)
    y = (computed(scaled, file) + scaled[:, :1]) * 10 ** (3 / 20)
    assert np.allclose(net(x.astype(np.float32)), y, atol=2e-6)


def test_arrays_have_names_and_the_rest_is_told(tmp_path):
    about = {"name": "Plexi", "samplerate": 48000, "esr": 0.01, "more": {"a": 1}}
    file = NETS["amplifier"] | {"metadata": about, "input_batch": [0.0] * 9, "in_gain": 0.5}
    path = written(tmp_path, file)
    info = inspect_file(path)
    assert [(t.name, t.shape) for t in info.tensors] == [
        ("layers.0.weights.0", (1, 32)),
        ("layers.0.weights.1", (8, 32)),
        ("layers.0.weights.2", (32,)),
        ("layers.1.weights.0", (8, 1)),
        ("layers.1.weights.1", (1,)),
    ]
    assert info.metadata == {"in_gain": "0.5", "name": "Plexi", "samplerate": "48000", "esr": "0.01"}
    assert ("input_batch", "list of 9") in info.unread and info.format == "JSON"
    stored = tr.load_weights(path)["layers.0.weights.1"]
    assert stored.dtype == np.float32 and np.array_equal(
        stored, file["layers"][0]["weights"][1].astype(np.float32)
    )


# ---- the trainers' files, against PyTorch


def simple_rnn(torch, data):
    """The trainers' SimpleRNN."""
    sizes = data["input_size"], data["hidden_size"], data["num_layers"]
    rec = getattr(torch.nn, data["unit_type"])(*sizes)
    lin = torch.nn.Linear(data["hidden_size"], data["output_size"], bias=data["bias_fl"])

    def forward(x):
        y = lin(rec(x)[0])
        return y + x[..., : data["skip"]] if data["skip"] else y

    return torch.nn.ModuleDict({"rec": rec, "lin": lin}), forward


def model_data(unit="LSTM", **more):
    data = {"model": "SimpleRNN", "input_size": 1, "skip": 1, "output_size": 1, "unit_type": unit}
    return data | {"num_layers": 1, "hidden_size": 5, "bias_fl": True} | more


@pytest.mark.parametrize(
    "data",
    [
        model_data(),
        model_data("GRU", skip=0, input_size=3),
        model_data("RNN", input_size=2),
        model_data(num_layers=3, bias_fl=False),
        model_data("GRU", input_size=3, output_size=2, skip=2, hidden_size=40),
    ],
)
def test_trained_amplifiers_are_pytorchs(tmp_path, data):
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    module, forward = simple_rnn(torch, data)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    path = written(tmp_path, {"model_data": data, "state_dict": state, "training_info": {"epoch": 3}})
    net = tr.load(path)
    assert sorted(net.state_dict()) == sorted(state)
    x = RNG.standard_normal((25, 2, data["input_size"])).astype(np.float32)
    with torch.no_grad():
        assert np.allclose(net(x), forward(torch.from_numpy(x)), atol=2e-6)
    assert ("training_info", "dict of 1") in inspect_file(path).unread
    tr.load(path).save(tmp_path / "m.safetensors")
    assert np.array_equal(tr.load(tmp_path / "m.safetensors")(x), net(x))


def test_tensors_by_name_have_no_net(tmp_path):
    net = tr.GRU(2, 3)
    state = {name: np.asarray(tensor) for name, tensor in net.state_dict().items()}
    path = written(tmp_path, state | {"eps": 1e-5})
    read = tr.load_weights(path)
    assert all(np.array_equal(read[name], tensor) for name, tensor in state.items()) and len(read) == 4
    with pytest.raises(tr.LoadError, match="weights but no architecture"):
        tr.load(path)


# ---- files that are refused


def changed(kind, place, value):
    file = json.loads(json.dumps(listed(NETS[kind])))
    *way, last = place
    at = file
    for step in way:
        at = at[step]
    at[last] = value
    return file


REFUSED = [
    (changed("amplifier", ["in_shape"], [None, 5, 5, 1]), "in_shape: expected a shape"),
    (changed("amplifier", ["in_shape"], [None, 10**18]), r"weights.0: got shape \(1, 32\), expected \(10000"),
    (changed("amplifier", ["layers"], []), "layers: got 0"),
    (changed("amplifier", ["layers"], [layer("activation", 1)]), "at least one that computes"),
    (changed("amplifier", ["layers"], [dense(1, 1)] * 1001), "layers: got 1001, expected 1 to 1000"),
    (changed("amplifier", ["layers"], 3), "expected a list of objects"),
    (changed("amplifier", ["layers", 0], {"type": "lstm"}), "layers.0: expected a list of weights"),
    (changed("amplifier", ["layers", 0, "type"], "conv2d"), r"layers.0 \('conv2d'\): cannot be read"),
    (changed("amplifier", ["layers", 0, "type"], ["lstm"]), "a list"),
    (changed("amplifier", ["layers", 0, "shape"], [16]), r"got shape \(1, 32\), expected \(1, 64\)"),
    (changed("amplifier", ["layers", 0, "activation"], "relu"), "activation: got 'relu', expected tanh"),
    (changed("amplifier", ["layers", 1, "activation"], "swish"), "got 'swish', expected one of elu, relu"),
    (changed("amplifier", ["layers", 1, "activation"], [1]), "activation: got a list"),
    (
        changed("amplifier", ["layers", 1, "weights"], [[[1]]]),
        r"layers.1 .*got shape \(1, 1\), expected \(8, 1\)",
    ),
    (changed("amplifier", ["layers", 1, "weights"], []), "got shape none"),
    (changed("amplifier", ["layers", 1, "weights", 1], [1, 2]), r"got shape \(2,\), expected \(1,\)"),
    (changed("amplifier", ["layers", 0, "weights", 1, 3], [1.0]), "lists of one length"),
    (changed("amplifier", ["layers", 0, "weights", 2, 3], None), "expected numbers"),
    (changed("amplifier", ["layers", 0, "weights", 2, 3], True), "expected numbers"),
    (changed("amplifier", ["layers", 0, "weights", 2, 3], "1.0"), "expected numbers"),
    (changed("amplifier", ["in_skip"], 2), "in_skip: got 2"),
    (changed("two levels", ["in_skip"], 1), "in_skip: got 1 for an output of 2"),
    (changed("amplifier", ["in_gain"], 1e30), "in_gain: got 1e.30, expected at most 200 decibels"),
    (changed("amplifier", ["out_gain"], "3 dB"), "out_gain"),
    (changed("gru", ["layers", 1, "weights", 2], [0.0] * 15), r"got shape \(15,\), expected \(2, 15\)"),
    (
        changed("convolutions", ["layers", 0, "dilation"], [10**15]),
        "dilation: got 1000000000000000, which needs",
    ),
    (changed("convolutions", ["layers", 0, "kernel_size"], [4]), r"expected \(4, 3, 4\)"),
    (changed("convolutions", ["layers", 0, "groups"], 2), "groups: got 2, expected a divisor of 3"),
    (changed("convolutions", ["layers", 0, "strides"], [2]), "strides: got another than 1"),
    (changed("convolutions", ["layers", 1, "epsilon"], -1), "epsilon: got -1"),
    (changed("convolutions", ["layers", 2, "weights"], [[[0.1, 0.2]]]), r"expected \(1, 4\)"),
    (changed("activations", ["layers", 1, "shape"], [9]), "its weights give 4 numbers, but its shape says 9"),
    (
        {"version": "0.5.0", "architecture": "WaveNet", "config": {}, "weights": [1.0]},
        "Neural Amp Modeler, WaveNet",
    ),
    (modeled(1, 2, 1)[0] | {"config": {"input_size": 1, "hidden_size": 2}}, "num_layers, each an integer"),
    (modeled(1, 2, 1)[0] | {"weights": [0.5] * 40}, "got 40 numbers, expected 39 for config's sizes"),
    (modeled(1, 2, 1)[0] | {"weights": [0.5] * 32 + [1e99] * 7}, "weights: .* a number that is not finite"),
    ({"model_data": 1, "state_dict": {}}, "expected an object model_data"),
    ({"model_data": model_data()}, "an object state_dict"),
    ({"a": 1, "b": "c"}, "holds no weights, .* its keys are a, b"),
    ({}, "its keys are none"),
    ({"class_name": "Model", "config": {}}, "an architecture of Keras, expected weights: .*architecture="),
]


@pytest.mark.parametrize("file, words", REFUSED)
def test_files_that_are_refused(tmp_path, file, words):
    with pytest.raises(tr.LoadError, match=words) as info:
        tr.load(written(tmp_path, file))
    assert "m.json: " in str(info.value)


LIN = {"lin.weight": [[0.5] * 5], "lin.bias": [0.0]}
REC = {f"rec.{kind}_{part}_l0": drawn(20, n) for kind, part, n in (("weight", "ih", 1), ("weight", "hh", 5))}
REC |= {f"rec.bias_{part}_l0": drawn(20) for part in ("ih", "hh")}


@pytest.mark.parametrize(
    "data, state, words",
    [
        ({"model": "GatedConvNet"}, {}, "model: got 'GatedConvNet', expected 'SimpleRNN'"),
        ({"unit_type": "Linear"}, {}, "unit_type: got 'Linear', expected one of LSTM, GRU, RNN"),
        ({"hidden_size": 10**18}, {}, "rec.weight_ih_l0: got shape"),
        ({"hidden_size": True}, {}, "hidden_size: got True"),
        ({"num_layers": 10**18}, {}, "rec.weight_hh_l9999"),
        ({"num_layers": 2}, {}, "rec.weight_hh_l1: got shape none"),
        ({"output_size": 2, "skip": 0}, {}, "lin.weight: got shape"),
        ({"skip": 2}, {}, "skip: got 2, expected 0, or output_size, 1"),
        ({"skip": "1"}, {}, "skip: got '1'"),
        ({"bias_fl": "yes"}, {}, "bias_fl"),
        ({"bias_fl": False}, {}, "state_dict: .*lin.bias"),
        ({}, {"rec.bias_ih_l0": [1.0]}, "state_dict: .*rec.bias_ih_l0"),
        ({}, {"extra": [1.0]}, "state_dict: .*extra"),
    ],
)
def test_amplifiers_that_are_refused(tmp_path, data, state, words):
    good = {"model_data": model_data(), "state_dict": LIN | REC}
    tr.load(written(tmp_path, good))
    good["model_data"] |= data
    good["state_dict"] |= state
    with pytest.raises(tr.LoadError, match=words):
        tr.load(written(tmp_path, good))


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"w": [NaN]}', "has the number NaN, expected finite numbers"),
        ('{"w": [-Infinity]}', "has the number -Infinity"),
        ('{"w": [' + "9" * 5000 + "]}", "has the number 9999"),
        ('{"w": [1], "w": [2]}', "has w twice, expected once"),
        ('{"w": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"w": ' + "[" * 33 + "1" + "]" * 33 + "}", "at most 32 dimensions"),
        ('{"w": [1, [2]]}', "expected numbers"),
        ('{"w": [[1], 2]}', "lists of one length"),
        ('{"w": [[1], {"a": 2}]}', "lists of one length"),
        ('{"w": [' + "1," * 2_000_001 + "1]}", "values and 250000 names"),
        ('{"w": [1]', "is not JSON"),
        ('{"w": [1]} {}', "is not JSON"),
        ("[1]", "begins with b'\\['"),
        ('{"\\ud800": [1]}', "not UTF-8"),
        ('{"' + "w" * 1001 + '": [1]}', "a name of 1001 characters"),
    ],
)
def test_hostile_texts(tmp_path, text, words):
    with pytest.raises(tr.LoadError, match=words):
        tr.load_weights(written(tmp_path, text))


def test_numbers_beyond_float32_are_infinite_and_empty_lists_empty(tmp_path):
    read = tr.load_weights(written(tmp_path, '{"a": [1e999, -1e39, 1e-50], "b": [[], []], "c": []}'))
    assert read["a"].tolist() == [np.inf, -np.inf, 0.0]
    assert read["b"].shape == (2, 0) and read["c"].shape == (0,)


def test_a_text_of_any_size_is_not_read(tmp_path):
    path = tmp_path / "m.json"
    with open(path, "wb") as file:
        file.write(b'{"w": [1]}')
        os.truncate(path, jsons.MAX_JSON + 1)
    with pytest.raises(tr.LoadError, match="expected at most 67108864"):
        tr.load_weights(path)


def test_there_is_no_key(tmp_path):
    with pytest.raises(tr.LoadError, match="key: got 'a', expected none"):
        tr.load_weights(written(tmp_path, {"a": [1.0]}), key="a")
