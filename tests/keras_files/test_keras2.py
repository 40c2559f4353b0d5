"""Files of Keras 2: those that tf_keras recorded, and layers that it has no more, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from folders import ROOT
from keras_files import close, numbers, ours

import tinyrnn as tr

h5py = pytest.importorskip("h5py")
FOLDER = ROOT / "tests" / "data" / "keras"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", ["words", "coder", "stack"])
def test_a_recorded_file(name, suffix):
    net = tr.load(FOLDER / f"{name}{suffix}")
    with np.load(FOLDER / "keras2.npz") as arrays:
        given = [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}.in")]
        expected = [arrays[key] for key in sorted(arrays) if key.startswith(f"{name}.out")]
    got = ours(net, given)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        close(one, other)


def test_the_tensors_of_a_recorded_file():
    tensors = tr.load_weights(FOLDER / "stack.h5")
    assert tensors["conv1d/conv1d/kernel:0"].shape == (3, 4, 3)
    assert tr.load_weights(FOLDER / "stack.keras").keys() != tensors.keys()


def whole_model(path, layers, weights):
    """A Sequential in HDF5 as Keras 2 writes it; weights by layer, in order."""
    config = {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["keras_version"] = b"2.1.6"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([name.encode() for name in weights])
        for layer, arrays in weights.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{layer}/{name}:0".encode() for name in arrays])
            for name, array in arrays.items():
                group[f"{layer}/{name}:0"] = array
    return path


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def of_cudnn(kernel, recurrent, count):
    """The matrices (units, inputs) and (units, units) of each gate, as cuDNN reads its parameters."""
    units = recurrent.shape[0]
    ins = [np.ascontiguousarray(part).reshape(units, -1) for part in np.split(kernel, count, 1)]
    hidden = [np.ascontiguousarray(part).reshape(units, units) for part in np.split(recurrent, count, 1)]
    return ins, hidden


def test_cudnn_lstm(tmp_path):
    x, units = numbers(2, 5, 3), 4
    arrays = {
        "kernel": numbers(3, 16, seed=1),
        "recurrent_kernel": numbers(4, 16, seed=2),
        "bias": numbers(32, seed=3),
    }
    layer = {
        "class_name": "CuDNNLSTM",
        "config": {"name": "rnn", "units": units, "batch_input_shape": [None, None, 3]},
    }
    net = tr.load(whole_model(tmp_path / "model.h5", [layer], {"rnn": arrays}))
    ins, hidden = of_cudnn(arrays["kernel"], arrays["recurrent_kernel"], 4)
    bias = np.split(arrays["bias"].astype(np.float64), 8)
    h = c = np.zeros((2, units))
    for t in range(5):
        i, f, g, o = (x[:, t] @ ins[k].T + bias[k] + h @ hidden[k].T + bias[4 + k] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    close(ours(net, x)[0], h)


def test_cudnn_gru(tmp_path):
    x, units = numbers(2, 5, 3), 4
    arrays = {
        "kernel": numbers(3, 12, seed=1),
        "recurrent_kernel": numbers(4, 12, seed=2),
        "bias": numbers(24, seed=3),
    }
    config = {"name": "rnn", "units": units, "return_sequences": True, "batch_input_shape": [None, None, 3]}
    layer = {"class_name": "CuDNNGRU", "config": config}
    net = tr.load(whole_model(tmp_path / "model.h5", [layer], {"rnn": arrays}))
    ins, hidden = of_cudnn(arrays["kernel"], arrays["recurrent_kernel"], 3)
    bias = np.split(arrays["bias"].astype(np.float64), 6)
    h, steps = np.zeros((2, units)), []
    for t in range(5):
        a = [x[:, t] @ ins[k].T + bias[k] for k in range(3)]
        b = [h @ hidden[k].T + bias[3 + k] for k in range(3)]
        z, r = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        h = z * h + (1 - z) * np.tanh(a[2] + r * b[2])
        steps.append(h)
    close(ours(net, x)[0], np.stack(steps, 1))


def test_a_bidirectional_layer_of_cudnn(tmp_path):
    x = numbers(2, 5, 3)
    arrays = {
        f"{way}/{name}": numbers(*shape, seed=seed)
        for seed, (way, name, shape) in enumerate(
            (way, name, shape)
            for way in ("forward", "backward")
            for name, shape in (("kernel", (3, 16)), ("recurrent_kernel", (4, 16)), ("bias", (32,)))
        )
    }
    config = {"name": "rnn", "units": 4, "return_sequences": True}
    both = {"name": "both", "merge_mode": "concat", "batch_input_shape": [None, None, 3]}
    layer = {
        "class_name": "Bidirectional",
        "config": {**both, "layer": {"class_name": "CuDNNLSTM", "config": config}},
    }
    net = tr.load(whole_model(tmp_path / "model.h5", [layer], {"both": arrays}))
    y = net(x.swapaxes(0, 1))
    for at, way in enumerate(("forward", "backward")):
        own = {name: arrays[f"{way}/{name}"] for name in ("kernel", "recurrent_kernel", "bias")}
        alone = {"class_name": "CuDNNLSTM", "config": {**config, "batch_input_shape": [None, None, 3]}}
        one = tr.load(whole_model(tmp_path / "one.h5", [alone], {"rnn": own}))
        expected = one(x.swapaxes(0, 1)[:: 1 - 2 * at])[:: 1 - 2 * at]
        close(y[..., 4 * at : 4 * at + 4], expected)


@pytest.mark.parametrize(("version", "slope"), [(b"2.9.0", 0.2), (b"3.1.0", 1 / 6)])
def test_hard_sigmoids_are_those_of_their_time(version, slope, tmp_path):
    layer = {
        "class_name": "Activation",
        "config": {"name": "a", "activation": "hard_sigmoid", "batch_input_shape": [None, 6]},
    }
    path = whole_model(tmp_path / "model.h5", [layer], {"a": {}})
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = version
    x = np.linspace(-4, 4, 12, dtype=np.float32).reshape(2, 6)
    close(tr.load(path)(x), np.clip(slope * x + 0.5, 0, 1))


def test_means_of_uneven_windows_count_no_padding(tmp_path):
    config = {
        "name": "p",
        "pool_size": [2, 3],
        "strides": [2, 3],
        "padding": "same",
        "batch_input_shape": [None, 7, 5, 2],
    }
    layer = {"class_name": "AveragePooling2D", "config": config}
    x = numbers(2, 7, 5, 2)
    y = np.stack(
        [np.stack([x[:, i : i + 2, j : j + 3].mean((1, 2)) for j in (0, 3)], 1) for i in (0, 2, 4, 6)], 1
    )
    close(tr.load(whole_model(tmp_path / "model.h5", [layer], {"p": {}}))(x), y)


def test_a_long_list_is_in_several_attributes(tmp_path):
    layers = [
        {
            "class_name": "Dense",
            "config": {"name": f"d{i}", "units": 2, "use_bias": False, "batch_input_shape": [None, 2]},
        }
        for i in range(3)
    ]
    weights = {f"d{i}": {"kernel": numbers(2, 2, seed=i)} for i in range(3)}
    path = whole_model(tmp_path / "model.h5", layers, weights)
    with h5py.File(path, "a") as file:
        attrs = file["model_weights"].attrs
        names = attrs["layer_names"]
        del attrs["layer_names"]
        attrs["layer_names0"], attrs["layer_names1"] = names[:2], names[2:]
    x = numbers(3, 2)
    close(tr.load(path)(x), x @ weights["d0"]["kernel"] @ weights["d1"]["kernel"] @ weights["d2"]["kernel"])
