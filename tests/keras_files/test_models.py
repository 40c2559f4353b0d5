"""Whole models of Keras 3: random ones, masks, custom layers, streams, and what is refused."""

from __future__ import annotations

import json
import random
import warnings

import numpy as np
import pytest
from keras_files import agrees, close, keras3, numbers, ours, randomised, run, saved

import tinyrnn as tr
from tinyrnn.weights import inspect_file

keras = keras3()
L = keras.layers
B = 2


def a_layer(rng: random.Random):
    """A layer from sequences to sequences."""
    units = rng.randrange(1, 9)
    functions = {
        "activation": rng.choice(["tanh", "relu", "softsign"]),
        "recurrent_activation": rng.choice(["sigmoid", "hard_sigmoid"]),
    }
    back = {"go_backwards": rng.random() < 0.3}
    return rng.choice(
        [
            lambda: [L.LSTM(units, return_sequences=True, use_bias=rng.random() < 0.7, **functions)],
            lambda: [L.GRU(units, return_sequences=True, reset_after=rng.random() < 0.5, **functions)],
            lambda: [L.SimpleRNN(units, return_sequences=True)],
            lambda: [
                L.GRU(units, return_sequences=True, **back),
                L.LSTM(units, return_sequences=True, **back),
            ],
            lambda: [
                L.Bidirectional(
                    L.GRU(units, return_sequences=True, **functions),
                    merge_mode=rng.choice(["sum", "mul", "ave", "concat"]),
                )
            ],
            lambda: [L.RNN([L.LSTMCell(units), L.GRUCell(units + 1)], return_sequences=True)],
            lambda: [
                L.Conv1D(
                    units,
                    rng.randrange(1, 4),
                    padding=rng.choice(["causal", "same"]),
                    dilation_rate=rng.randrange(1, 3),
                    activation="relu",
                )
            ],
            lambda: [L.Dense(units, activation="tanh"), L.Dropout(0.3), L.LayerNormalization()],
            lambda: [L.BatchNormalization(), L.LeakyReLU()],
            lambda: [L.TimeDistributed(keras.Sequential([L.Dense(units), L.ReLU()]))],
            lambda: [L.SeparableConv1D(units, 2, padding="same")],
        ]
    )()


def an_end(rng: random.Random):
    return rng.choice(
        [
            lambda: [L.Dense(3, activation="softmax")],
            lambda: [L.LSTM(4), L.Dense(2)],
            lambda: [L.Bidirectional(L.GRU(3))],
            lambda: [L.GlobalAveragePooling1D(), L.BatchNormalization()],
            lambda: [L.GlobalMaxPooling1D(), L.Dense(2, activation="sigmoid")],
            lambda: [L.MaxPooling1D(2), L.Flatten(), L.Dense(3)],
        ]
    )()


@pytest.mark.parametrize("seed", range(30))
def test_a_random_row_of_layers(seed, tmp_path):
    rng = random.Random(seed)
    features = rng.randrange(1, 7)
    layers = [one for _ in range(rng.randrange(1, 5)) for one in a_layer(rng)] + an_end(rng)
    model = randomised(keras.Sequential([keras.Input((8, features)), *layers]), seed)
    agrees(model, numbers(B, 8, features, seed=seed), tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_a_random_graph(seed, tmp_path):
    rng = random.Random(1000 + seed)
    values = [keras.Input((8, 3)), keras.Input((8, 5))]
    inputs = list(values)
    for _ in range(rng.randrange(2, 7)):
        one, other = rng.choice(values), rng.choice(values)
        kind = rng.randrange(5)
        if kind == 0:
            values.append(L.Concatenate()([one, other]))
        elif kind == 1:
            merge = rng.choice([L.Add, L.Multiply, L.Maximum, L.Average])
            values.append(merge()([L.Dense(4)(one), L.GRU(4, return_sequences=True)(other)]))
        elif kind == 2:
            _, h = L.GRU(4, return_state=True)(one)
            values.append(L.GRU(4, return_sequences=True)(other, initial_state=h))
        elif kind == 3:
            values.append(L.Attention()([L.Dense(4)(one), L.Dense(4)(other)]))
        else:
            values.append(L.Bidirectional(L.LSTM(2, return_sequences=True))(one))
    outputs = [L.Dense(2)(values[-1]), L.LSTM(3)(values[-2] if len(values) > 3 else values[-1])]
    both = L.Dense(1)(L.Concatenate()([L.GlobalAveragePooling1D()(one) for one in inputs]))
    model = randomised(keras.Model(inputs, [*outputs, both]), seed)
    agrees(model, [numbers(B, 8, 3, seed=seed), numbers(B, 8, 5, seed=seed + 1)], tmp_path)


# ---- streams, training, quantising ------------------------------------------------------------------------


def test_a_net_streams_saves_and_trains(tmp_path):
    model = randomised(
        keras.Sequential(
            [
                keras.Input((None, 5)),
                L.Conv1D(6, 3, padding="causal", activation="relu", name="front"),
                L.GRU(7, return_sequences=True, name="rnn"),
                L.Dense(2, name="head"),
            ]
        )
    )
    net = tr.load(saved(model, tmp_path / "model.keras"))
    x = numbers(9, B, 5)
    y = net(x)
    close(y, run(model, x.swapaxes(0, 1))[0])
    stream = net.stream(batch=B)
    assert np.array_equal(np.stack([stream.step(frame) for frame in x]), y)
    assert {"front.weight", "rnn.weight_ih_l0", "head.bias"} <= net.state_dict().keys()
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(tr.load(tmp_path / "net.safetensors")(x), y)
    trainer = net.train().trainer(tr.optim.Adam(net, lr=0.01), tr.MSELoss(), batch=B, steps=9)
    losses = [trainer.step(x, np.zeros_like(y)) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert np.abs(tr.quantize(net.eval(), "int8")(x)).max() > 0


# ---- masks ------------------------------------------------------------------------------------------


def masks(model):
    """The same layers as a functional model, in which Keras 3 writes the masks down."""
    x = keras.Input(model.inputs[0].shape[1:], dtype=model.inputs[0].dtype)
    y = x
    for layer in model.layers:
        y = layer(y)
    return keras.Model(x, y)


@pytest.mark.parametrize("kind", ["Masking", "Embedding"])
def test_masks_are_lengths(kind, tmp_path):
    if kind == "Masking":
        first, x = [keras.Input((None, 3)), L.Masking(-1.0)], numbers(B, 7, 3)
        x[1, 4:] = -1.0
    else:
        first = [keras.Input((None,), dtype="int32"), L.Embedding(9, 4, mask_zero=True)]
        x = np.random.default_rng(0).integers(1, 9, (B, 7))
        x[1, 4:] = 0
    layers = [L.Bidirectional(L.LSTM(3, return_sequences=True)), L.GRU(4, return_sequences=True)]
    model = randomised(keras.Sequential([*first, *layers, L.Dropout(0.1), L.GlobalAveragePooling1D()]))
    for one in (model, masks(model)):
        for suffix in (".keras", ".h5"):
            net = tr.load(saved(one, tmp_path / f"model{suffix}"))
            close(ours(net, x, lengths=[7, 4])[0], run(model, x)[0])
    last = randomised(keras.Sequential([*first, *layers, L.Bidirectional(L.LSTM(3)), L.Dense(2)]))
    net = tr.load(saved(last, tmp_path / "model.keras"))
    close(ours(net, x, lengths=[7, 4])[0], run(last, x)[0])


def test_masks_of_a_graph(tmp_path):
    x, i = keras.Input((None, 3)), keras.Input((None,), dtype="int32")
    y = L.TimeDistributed(L.Dense(4))(L.Bidirectional(L.LSTM(2, return_sequences=True))(L.Masking(-1.0)(x)))
    e = L.Concatenate()([L.Embedding(5, 4, mask_zero=True)(i), y])
    y = L.Attention()([y, L.Add()([y, L.GRU(4, return_sequences=True)(e)])])
    model = randomised(keras.Model([x, i], [L.GlobalAveragePooling1D()(y), L.GRU(3)(e)]))
    given = [numbers(B, 7, 3), np.random.default_rng(0).integers(1, 5, (B, 7))]
    given[0][1, 4:], given[1][1, 4:] = -1.0, 0
    net = tr.load(saved(model, tmp_path / "model.keras"))
    for one, other in zip(ours(net, given, lengths=[7, 4]), run(model, given), strict=True):
        close(one, other)


def test_a_mask_that_the_model_computes(tmp_path):
    x = keras.Input((None, 3))
    model = keras.Model(x, L.LSTM(3)(x, mask=keras.ops.any(keras.ops.not_equal(x, 5.0), axis=-1)))
    with pytest.raises(tr.LoadError, match=r"layer lstm.*: reads a mask that the model computes"):
        tr.load(saved(model, tmp_path / "model.keras"))


R = {"return_sequences": True}
COMPUTED = {
    "last": lambda m: [L.LSTM(4)(m), L.GlobalMaxPooling1D()(m)],
    "steps": lambda m: [L.SimpleRNN(4, **R)(m), L.Conv1D(3, 2)(m)],
    "states": lambda m: [*L.LSTM(4, return_state=True)(m), L.GlobalMaxPooling1D()(m)],
    "cells": lambda m: [L.RNN([L.GRUCell(4), L.LSTMCell(3)], **R)(m), L.GlobalMaxPooling1D()(m)],
    "backwards": lambda m: [L.GRU(4, go_backwards=True)(m), L.GlobalMaxPooling1D()(m)],
    "both": lambda m: [L.Bidirectional(L.GRU(4))(m), L.Flatten()(L.GlobalMaxPooling1D()(m))],
    "both, steps": lambda m: L.GlobalMaxPooling1D()(L.GRU(3, **R)(L.Bidirectional(L.LSTM(4, **R), "ave")(m))),
    "apart": lambda m: [*L.Bidirectional(L.GRU(3, **R), None)(m), L.GlobalMaxPooling1D()(m)],
    "mean": lambda m: [L.GlobalAveragePooling1D()(L.Dense(4)(m)), L.GlobalMaxPooling1D()(m)],
    "residual": lambda m: [L.GRU(4)(L.Add()([m, L.LSTM(3, **R)(m)])), L.Conv1D(3, 2)(m)],
    "norm": lambda m: [L.GRU(4)(L.LayerNormalization()(L.LSTM(4, **R)(m))), L.Conv1D(3, 2)(m)],
    "no mask behind": lambda m: [L.GRU(4)(L.Add()([m, L.Conv1D(3, 1)(m)])), L.LSTM(2)(m)],
    "frames": lambda m: [L.GRU(4)(L.TimeDistributed(L.Dense(3))(m)), L.Conv1D(3, 2)(m)],
    "slice": lambda m: L.LSTM(4, **R)(m)[:, -1],
    "zeros": lambda m: L.LSTM(3)(L.Conv1D(3, 2)(m)),
    "operation": lambda m: L.GRU(4)(L.LSTM(3, **R)(m) + m),
    "operation, two readers": lambda m: [L.GRU(4)(m * 2.0), L.Conv1D(3, 2)(m)],
    "reshape": lambda m: L.GRU(4)(L.TimeDistributed(L.Flatten())(L.Reshape((-1, 2, 2))(L.LSTM(4, **R)(m)))),
    "reshape, two readers": lambda m: [L.GRU(4)(L.Reshape((-1, 3))(m)), L.LSTM(2)(m)],
}


@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("number", [0.0, -1.0])
@pytest.mark.parametrize("build", COMPUTED.values(), ids=COMPUTED)
def test_a_mask_that_lengths_cannot_say(build, number, tmp_path):
    """The net computes it: steps may be masked anywhere."""
    x = keras.Input((None, 3))
    model = randomised(keras.Model(x, build(L.Masking(number)(x))))
    given = numbers(B, 7, 3)
    given[0, 2:4] = given[1, 4:] = given[1, :2] = number
    net = tr.load(saved(model, tmp_path / "model.keras"))
    for one, other in zip(ours(net, given), run(model, given), strict=True):
        close(one, other)


REFUSED = {
    "attention": lambda m: L.Attention()([m, m]),
    "some of it": lambda m: L.GRU(4)(L.Concatenate()([m, L.Conv1D(3, 1)(m)])),
    "turned": lambda m: L.LSTM(4)(L.GRU(4, go_backwards=True, return_sequences=True)(m)),
}


@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_a_mask_that_no_net_computes(build, tmp_path):
    x = keras.Input((None, 3))
    m = L.Masking(-1.0)(x)
    model = keras.Model(x, [build(m), L.Conv1D(3, 2)(m)])
    with pytest.raises(tr.LoadError, match=r"leaves out the steps that .* masks, .* lengths cannot say both"):
        tr.load(saved(model, tmp_path / "model.keras"))
    model = keras.Model(x, L.GRU(3)(m, initial_state=L.GlobalMaxPooling1D()(m)))
    with pytest.raises(tr.LoadError, match="begins with states and leaves out steps"):
        tr.load(saved(model, tmp_path / "model.keras"))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_masks_within_a_row_and_the_loss_behind_them(tmp_path):
    """The idiom of docs/keras.md: Keras' outputs, its loss, and the weights that a step of training gives."""
    words = np.random.default_rng(0).integers(1, 9, (6, 7)).astype(np.int32)
    words[1, 4:], words[2, 2], words[3, :2], words[4, 1:6] = 0, 0, 0, 0
    layers = [
        L.Embedding(9, 4, mask_zero=True, name="words"),
        L.GRU(5, return_sequences=True, name="gru"),
        L.LSTM(5, return_sequences=True, name="lstm"),
        L.Dense(3, name="head"),
    ]
    model = randomised(keras.Sequential([keras.Input((None,), dtype="int32"), *layers]))
    loaded = tr.load(saved(model, tmp_path / "model.keras"))
    counts = tr.Embedding(9, 1)
    counts.load_state_dict({"weight": np.arange(9)[:, None] != 0})
    counts.freeze()
    x = tr.Input()
    m = counts(x).named("mask")
    h = loaded.gru(loaded.words(x).named("words"), mask=m).named("gru")
    net = tr.Net(x, loaded.head(loaded.lstm(h, mask=m).named("lstm")).named("head"))
    mask = words != 0
    close(net.predict(words)[mask], run(model, words)[0][mask])
    y = np.random.default_rng(1).integers(0, 3, (6, 7))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    wanted = model.evaluate(words, y, verbose=0)
    found = net.evaluate(words, y, loss="cross_entropy", mask=mask)["loss"]
    assert found == pytest.approx(wanted, rel=1e-5)
    before = net.state_dict()
    model.train_on_batch(words, y)
    net.fit(words, y, 1, 6, loss="cross_entropy", optimizer=tr.optim.SGD(net, lr=0.1), mask=mask, verbose=0)
    after = tr.load(saved(model, tmp_path / "after.keras")).state_dict()
    assert len(after) == len(before) - 1
    moved = 0
    for name, array in net.state_dict().items():
        if name in after and not name.startswith("lstm.bias"):  # of which Keras has one
            close(array, after[name])
            moved += not np.allclose(array, before[name], atol=1e-4)
    assert moved >= 6


# ---- custom layers -----------------------------------------------------------------------------------------


class Doubled(L.Layer):
    def call(self, x):
        return 2 * x


def test_a_layer_of_the_files_author(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), Doubled(), L.LSTM(4)])
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(tr.LoadError, match=r"layer doubled \(Doubled\): Doubled is not known"):
        tr.load(path)
    x = numbers(B, 5, 3)
    for custom in ({"Doubled": lambda x: 2 * x}, {"doubled": tr.Scale(2.0)}):
        close(ours(tr.load(path, custom=custom), x)[0], run(model, x)[0])


def test_an_activation_of_the_files_author(tmp_path):
    mine = keras.saving.register_keras_serializable("mine")(squared)
    model = keras.Sequential([keras.Input((None, 3)), L.Dense(4, activation=mine)])
    path = saved(model, tmp_path / "model.keras")
    with pytest.raises(tr.LoadError, match=r"the activation squared is not known"):
        tr.load(path)
    x = numbers(B, 5, 3)
    close(ours(tr.load(path, custom={"squared": lambda x: x * x}), x)[0], run(model, x)[0])


def squared(x):
    return x * x


def test_a_lambda_never_runs(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), L.Lambda(lambda x: x), L.LSTM(4)])
    with pytest.raises(tr.LoadError, match=r"Lambda is not known, and code in a file never runs"):
        tr.load(saved(model, tmp_path / "model.keras"))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_masks_of_keras_2(tmp_path):
    """There a layer passes on the mask that it was given, and a sum has the mask of one of its parts."""
    x = keras.Input((None,), dtype="int32", name="x")
    mask = keras.ops.not_equal(x, 0)
    e = L.Embedding(11, 4)(x)
    h = L.GRU(4, return_sequences=True)(e, mask=mask)
    rows = L.LSTM(4, return_sequences=True, name="told")(L.Add()([e, h]), mask=mask)
    model = randomised(keras.Model(x, [rows[:, -1], L.GRU(3, name="operation")(rows * 2.0)]))
    config = json.loads(model.to_json())
    config["keras_version"] = "2.15.0"
    layers = {layer["name"]: layer for layer in config["config"]["layers"]}
    del layers["told"]["inbound_nodes"][0]["kwargs"]["mask"]
    compared = next(layer for layer in layers.values() if layer["class_name"] == "NotEqual")
    compared |= {"class_name": "TFOpLambda", "inbound_nodes": [["x", 0, 0, {"y": 0}]]}
    compared["config"] = {"name": compared["name"], "function": "math.not_equal"}
    model.save_weights(tmp_path / "model.weights.h5")
    net = tr.load(tmp_path / "model.weights.h5", architecture=json.dumps(config))
    given = np.random.default_rng(0).integers(1, 11, (3, 7))
    given[0, 3:] = given[1, 2:4] = given[2, :2] = 0
    for one, other in zip(ours(net, given), run(model, given), strict=True):
        close(one, other)


class OwnCell(L.SimpleRNNCell):
    """A cell of the file's author."""


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (lambda: [L.ConvLSTM1D(3, 2)], r"\(ConvLSTM1D\): ConvLSTM1D has a state of channels and places"),
        (lambda: [L.LSTM(3, activation="gelu")], "gelu is no function of a gate"),
        (lambda: [L.LSTM(3, go_backwards=True, return_sequences=True)], "from the last to the first"),
        (lambda: [L.Conv1D(3, 2, strides=2, padding="same")], "depends on their number"),
        (lambda: [L.Discretization([0.0, 1.0]), L.LSTM(3)], "save the model without it"),
        (lambda: [L.Dense(3, dtype="int8_from_float32"), L.LSTM(3)], "is quantised to int8, expected floats"),
        (lambda: [L.RNN(OwnCell(3))], r"a cell of type OwnCell.* custom=\{'rnn.*'"),
        (lambda: [L.Reshape((-1, 3, 1)), L.TimeDistributed(L.LSTM(3))], "a model of its own"),
        (lambda: [L.CategoryEncoding(5, output_mode="count")], "output_mode is 'count'"),
    ],
)
def test_what_no_layer_does(layers, words, tmp_path):
    rows = layers()
    frame = (8, 3) if "ConvLSTM" in type(rows[0]).__name__ else (3,)
    model = keras.Sequential([keras.Input((None, *frame)), *rows])
    with pytest.raises(tr.LoadError, match=rf"model\.keras: .*{words}"):
        tr.load(saved(model, tmp_path / "model.keras"))


@pytest.mark.filterwarnings("ignore")  # Keras' own
@pytest.mark.parametrize(
    "rows",
    [
        lambda: [L.Reshape((9, 1)), L.LSTM(5, return_sequences=True), L.Dense(2)],
        lambda: [L.Rescaling(2.0), L.Reshape((-1, 1)), L.Conv1D(4, 3), L.GRU(5)],
    ],
)
def test_numbers_that_become_steps(rows, tmp_path):
    model = randomised(keras.Sequential([keras.Input((9,)), *rows()]))
    x = numbers(B, 9)
    for suffix in (".keras", ".h5"):
        net = tr.load(saved(model, tmp_path / f"model{suffix}"))
        close(net(x.T[..., None]), run(model, x)[0])
    assert tr.verify(net, model)


def test_axes_more_and_frames_in_place_of_steps(tmp_path):
    x = keras.Input((9, 3))
    h, last = L.LSTM(5, return_sequences=True)(x), L.GRU(5)(x)
    wide = keras.ops.expand_dims(last, 1)
    model = randomised(keras.Model(x, h + wide))
    agrees(model, numbers(B, 9, 3), tmp_path)
    agrees(randomised(keras.Model(x, keras.ops.expand_dims(h, -1) * 2.0)), numbers(B, 9, 3), tmp_path)
    frames = L.Reshape((9, 5))(L.Dense(45)(last))
    for merged in (L.Add()([h, frames]), h * frames):
        agrees(randomised(keras.Model(x, L.Flatten()(merged))), numbers(B, 9, 3), tmp_path)


def _decoders():
    """Models whose decoder has steps of its own: 7 of them, whatever the encoder read."""
    x = keras.Input((None, 3))
    y, h, c = L.LSTM(5, return_state=True)(x)
    told = L.LSTM(5, return_sequences=True)(L.RepeatVector(7)(y), initial_state=[h, c])
    yield x, L.TimeDistributed(L.Dense(2))(told)
    x, more = keras.Input((None, 3)), keras.Input((4,))
    h = L.Concatenate()([L.GRU(5)(x), more])
    short, far = (L.Bidirectional(L.GRU(4, return_sequences=True))(L.RepeatVector(n)(h)) for n in (2, 7))
    yield [x, more], [L.Flatten()(short), L.Conv1D(3, 3, padding="same")(far)]
    x = keras.Input((6,))
    yield x, L.Dense(1)(L.LSTM(4, return_sequences=True)(L.RepeatVector(7)(L.Dense(5)(x))))


@pytest.mark.parametrize("which", range(3))
def test_decoders_of_so_many_steps(which, tmp_path):
    model = randomised(keras.Model(*list(_decoders())[which]))
    given = [numbers(B, *(size or 9 for size in one.shape[1:])) for one in model.inputs]
    for suffix in (".keras", ".h5"):
        net = tr.load(saved(model, tmp_path / f"model{suffix}"))
        y = net(*(one.swapaxes(0, 1) if one.ndim == 3 else one for one in given))
        for got, expected in zip(y.values() if isinstance(y, dict) else [y], run(model, given), strict=True):
            close(got, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras, about NumPy
        assert tr.verify(net, model, steps=9)


def test_a_shape_that_the_file_leaves_open(tmp_path):
    model = randomised(keras.Sequential([keras.Input((6, 1)), L.Conv1D(3, 2), L.GRU(3)]))
    net = tr.load(saved(model, tmp_path / "model.keras"), shapes={"no": (None, 3)})
    close(ours(net, numbers(B, 6, 1))[0], run(model, numbers(B, 6, 1))[0])
    with pytest.raises(TypeError):
        tr.load(tmp_path / "model.keras", rate=1)


def test_weights_alone(tmp_path):
    model = randomised(keras.Sequential([keras.Input((None, 3)), L.LSTM(4)]))
    path = tmp_path / "model.weights.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_weights(path)
        first = model.get_weights()[0]
    tensors = tr.load_weights(path)
    assert np.array_equal(tensors["layers/lstm/cell/vars/0"], first)
    with pytest.raises(tr.LoadError, match="weights but no architecture"):
        tr.load(path)
    x = numbers(B, 6, 3)
    text = model.to_json()
    close(ours(tr.load(path, architecture=text), x)[0], run(model, x)[0])
    with pytest.raises(tr.LoadError, match="architecture: is no JSON"):
        tr.load(path, architecture="model.json")
    with pytest.raises(tr.LoadError, match="an architecture of its own"):
        tr.load(saved(model, tmp_path / "model.keras"), architecture=text)


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_a_model_and_its_file_are_compared_with_the_net(tmp_path):
    left, right = keras.Input((None, 4)), keras.Input((None, 4))
    h = L.LSTM(5, return_sequences=True)(L.Add()([left, right]))
    model = keras.Model([left, right], [L.Dense(2)(h), L.GRU(3)(h)])
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.hdf5")
    net = tr.load(tmp_path / "model.keras")
    for against in (model, tmp_path / "model.keras", tmp_path / "model.hdf5"):
        found = tr.verify(net, against, steps=30)
        assert found, str(found)
        assert len({check.output for check in found.checks}) == 2
        assert not all(check.same_bits for check in found.checks)  # it ran elsewhere
    (tmp_path / "model").write_bytes((tmp_path / "model.hdf5").read_bytes())
    with pytest.raises(tr.LoadError, match=r"verify: got HDF5, expected a name in \.onnx, \.keras"):
        tr.verify(net, tmp_path / "model")
    model.layers[-1].set_weights([array + 0.1 for array in model.layers[-1].get_weights()])
    assert not tr.verify(net, model, steps=30)


@pytest.mark.filterwarnings("ignore")  # Keras' own
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.Masking(), L.Bidirectional(L.LSTM(5, return_sequences=True)), L.Dense(2)],
        lambda: [L.Masking(), L.GRU(5, return_sequences=True), L.GlobalAveragePooling1D()],
        lambda: [L.Masking(), L.Conv1D(5, 3), L.LSTM(4)],
        lambda: [L.Embedding(9, 6, mask_zero=True), L.LSTM(5)],
    ],
)
def test_a_model_that_masks_is_compared_without_masked_steps(layers, tmp_path):
    rows = layers()
    shape = (20,) if isinstance(rows[0], L.Embedding) else (20, 4)
    model = randomised(keras.Sequential([keras.Input(shape), *rows]))
    net = tr.load(saved(model, tmp_path / "model.keras"))
    found = tr.verify(net, model)
    assert found, str(found)
    assert len(shape) == 1 or "silence" in {check.case for check in found.checks}
    model.layers[-2].set_weights([array + 0.1 for array in model.layers[-2].get_weights()])
    model.layers[-1].set_weights([array + 0.1 for array in model.layers[-1].get_weights()])
    assert not tr.verify(net, model)


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_what_the_author_keeps_beside_a_model_and_keras_1(tmp_path):
    path, x = tmp_path / "model.h5", np.ones((4, 1, 5), np.float32)
    model = keras.Sequential([keras.Input((None, 5)), L.LSTM(6)])
    model.save(path)
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as file:
        file["info/input_size"] = 180
    assert np.abs(tr.load(path)(x) - model(x.swapaxes(0, 1)).detach().numpy()).max() < 2e-6
    assert ("info/input_size", "not among the model's weights") in inspect_file(path).unread
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = "1.2.2"
    with pytest.raises(tr.LoadError, match="saved by Keras 1, expected 2 or 3"):
        tr.load(path)


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_a_file_that_keras_does_not_read_is_an_error_of_its_own(tmp_path):
    model = keras.Sequential([keras.Input((None, 5)), L.LSTM(6)])
    model.save(tmp_path / "model.h5")
    with pytest.importorskip("h5py").File(tmp_path / "model.h5", "r+") as file:  # Keras 2 wrote time_major
        config = file.attrs["model_config"]
        file.attrs["model_config"] = config.replace('"units": 6', '"units": 6, "time_major": false')
    net = tr.load(tmp_path / "model.h5")
    with pytest.raises(tr.LoadError, match=r"model\.h5: Keras \d[\d.]* does not read it: .*time_major"):
        tr.verify(net, tmp_path / "model.h5")


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_a_model_of_a_fixed_number_of_steps_is_compared_on_as_many(tmp_path):
    model = keras.Sequential([keras.Input((24, 5)), L.LSTM(6, return_sequences=True), L.Dense(2)])
    model.save(tmp_path / "model.keras")
    net = tr.load(tmp_path / "model.keras")
    for against in (model, tmp_path / "model.keras"):
        found = tr.verify(net, against)
        assert found, str(found)


def test_a_mask_that_is_an_input(tmp_path):
    x, m = keras.Input((9, 3)), keras.Input((9,), dtype="bool")
    h = L.Bidirectional(L.LSTM(4, return_sequences=True))(x, mask=m)
    y = L.Concatenate()([L.GRU(3)(h), L.GlobalAveragePooling1D()(x, mask=m)])
    model = randomised(keras.Model([x, m], y))
    given, mask = numbers(B, 9, 3), np.arange(9) < [[9], [6]]
    mask[0, 4] = False
    net = tr.load(saved(model, tmp_path / "model.keras"))
    close(net(given.swapaxes(0, 1), mask.T[..., None].astype(np.float32)), run(model, [given, mask])[0])
    with pytest.raises(tr.LoadError, match=r"\(TimeDistributed\): reads a mask that is an input"):
        tr.load(saved(keras.Model([x, m], L.TimeDistributed(L.Dense(2))(x, mask=m)), tmp_path / "m.keras"))


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_operations_of_tensorflow(tmp_path):
    """Keras 2 has operations on values as layers: TFOpLambda, SlicingOpLambda."""
    x = keras.Input((9, 3), name="x")
    h = L.LSTM(4, return_sequences=True, name="h")(x)
    y = keras.ops.clip(keras.ops.flip(1.0 - h[:, 6:, 1:] * 2.0, axis=1)[..., 1:], -0.5, 0.9)
    y = keras.ops.mean(y, axis=1)
    model = randomised(keras.Model(x, y))
    config = json.loads(model.to_json())
    item, multiply, subtract, reverse, part, clip, mean = config["config"]["layers"][2:]
    whole = {"start": None, "stop": None, "step": None}
    spec = [whole, {**whole, "start": 6}, {**whole, "start": 1}]
    part_spec = [{"class_name": "__ellipsis__"}, {**whole, "start": 1}]
    for layer, function, node in (
        (item, "__operators__.getitem", ["h", 0, 0, {"slice_spec": spec}]),
        (multiply, "math.multiply", [item["name"], 0, 0, {"y": 2.0, "name": None}]),
        (subtract, "math.subtract", ["_CONSTANT_VALUE", -1, 1.0, {"y": [multiply["name"], 0, 0]}]),
        (reverse, "reverse", [subtract["name"], 0, 0, {"axis": [1]}]),
        (part, "__operators__.getitem", [reverse["name"], 0, 0, {"slice_spec": part_spec}]),
        (clip, "clip_by_value", [part["name"], 0, 0, {"clip_value_min": -0.5, "clip_value_max": 0.9}]),
        (mean, "math.reduce_mean", [clip["name"], 0, 0, {"axis": 1}]),
    ):
        layer["class_name"] = "SlicingOpLambda" if layer in (item, part) else "TFOpLambda"
        layer["config"] = {"name": layer["name"], "trainable": True, "function": function}
        layer["inbound_nodes"] = [node]
        layer.pop("module")
    model.save_weights(tmp_path / "model.weights.h5")
    net = tr.load(tmp_path / "model.weights.h5", architecture=json.dumps(config))
    given = numbers(B, 9, 3)
    close(net(given.swapaxes(0, 1)), run(model, given)[0])
    mean["config"]["function"] = "math.cumsum"
    with pytest.raises(tr.LoadError, match=r"Cumsum is not known, .*custom=\{'Cumsum': \.\.\.\}"):
        tr.load(tmp_path / "model.weights.h5", architecture=json.dumps(config))
