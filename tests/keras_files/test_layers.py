"""Each layer that is claimed, against Keras 3 itself, in `.keras` and in HDF5."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from folders import DOCS
from keras_files import agrees, keras3, numbers, randomised

import tinyrnn as tr
from tinyrnn.keras.layers import LAYERS, OPERATIONS

keras = keras3()
L = keras.layers
T, B, F = 7, 2, 5


def over_time(*layers, frame=(F,), steps=None, seed=0):
    """A row of layers that reads sequences."""
    model = keras.Sequential([keras.Input((steps, *frame)), *layers])
    return randomised(model), numbers(B, T, *frame, seed=seed)


def in_frames(*layers, frame=(8,)):
    """A row of layers that reads frames."""
    return randomised(keras.Sequential([keras.Input(frame), *layers])), numbers(B, *frame)


def graph(make, *frames, steps=None):
    """A functional model of several inputs: a frame alone, or behind steps if it is in a list."""
    inputs = [keras.Input((steps, *one[0]) if isinstance(one, list) else one) for one in frames]
    arrays = [
        numbers(B, T, *one[0], seed=i) if isinstance(one, list) else numbers(B, *one, seed=i)
        for i, one in enumerate(frames)
    ]
    model = randomised(keras.Model(inputs, make(*inputs)))
    return model, arrays if len(arrays) > 1 else arrays[0]


def words(*layers, steps=None, size=11):
    model = randomised(keras.Sequential([keras.Input((steps,), dtype="int32"), *layers]))
    return model, np.random.default_rng(0).integers(1, size, (B, steps or T))


def of_words(make):
    """A functional model of indices, some of them 0 within and at both ends."""
    x = keras.Input((None,), dtype="int32")
    given = np.random.default_rng(0).integers(1, 11, (3, T))
    given[0, 3:] = given[1, 2:4] = given[2, :2] = 0
    return randomised(keras.Model(x, make(x))), given


def seq(kind, *args, **kwargs):
    return kind(*args, return_sequences=True, **kwargs)


def stack(*cells):
    return L.StackedRNNCells(list(cells))


def states_of(kind, **kwargs):
    return lambda x: list(kind(4, return_state=True, **kwargs)(x))


def coder(kind, count, many=False):
    """A layer that begins with the states of another one."""

    def make(x, y):
        _, *states = kind(4, return_state=True)(x)
        assert len(states) == count
        return kind(4, return_sequences=many)(y, initial_state=states if count > 1 else states[0])

    return make


ACTIVATIONS = [
    *("celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "linear"),
    *("log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax"),
    *("softplus", "softsign", "tanh", "tanh_shrink"),
]
CASES = {
    **{
        f"activation {name}": lambda name=name: over_time(L.Dense(4, activation=name)) for name in ACTIVATIONS
    },
    "Activation": lambda: over_time(L.Activation("tanh")),
    "ActivityRegularization": lambda: over_time(L.ActivityRegularization(0.1), L.Dense(3)),
    "AlphaDropout": lambda: over_time(L.AlphaDropout(0.5), L.Dense(3)),
    "Dropout": lambda: over_time(L.Dropout(0.5), L.LSTM(3, dropout=0.2, recurrent_dropout=0.1)),
    "GaussianDropout": lambda: over_time(L.GaussianDropout(0.5), L.Dense(3)),
    "GaussianNoise": lambda: over_time(L.GaussianNoise(0.5), L.Dense(3)),
    "SpatialDropout1D": lambda: over_time(L.SpatialDropout1D(0.5), L.Dense(3)),
    "SpatialDropout2D": lambda: in_frames(L.SpatialDropout2D(0.5), L.Flatten(), frame=(4, 5, 2)),
    "Identity": lambda: over_time(L.Identity(), L.Dense(3)),
    "ELU": lambda: over_time(L.ELU(0.7)),
    "LeakyReLU": lambda: over_time(L.LeakyReLU(0.2)),
    "PReLU": lambda: over_time(L.PReLU(shared_axes=[1])),
    "PReLU frames": lambda: in_frames(L.PReLU()),
    "ReLU": lambda: over_time(L.ReLU()),
    "ReLU 6": lambda: over_time(L.ReLU(0.6, negative_slope=0.1)),
    "Softmax": lambda: over_time(L.Softmax()),
    "Softmax steps": lambda: over_time(L.Dense(2), L.Softmax(axis=1)),
    "Dense": lambda: over_time(L.Dense(4, use_bias=False), L.Dense(3, activation="relu")),
    "Dense frames": lambda: in_frames(L.Dense(4), L.Dense(3)),
    "EinsumDense": lambda: over_time(
        L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="d", activation="gelu"),
        L.EinsumDense("...yz,yzx->...x", 4, bias_axes="x"),
        L.EinsumDense("abx,xy->aby", (None, 3)),
    ),
    "Embedding": lambda: words(L.Embedding(11, 4), L.LSTM(3)),
    "Embedding mask": lambda: words(
        L.Embedding(11, 4, mask_zero=True), L.Bidirectional(L.GRU(3)), L.Dense(2)
    ),
    "Embedding mask that lengths cannot say": lambda: of_words(
        lambda x: seq(L.LSTM, 3)(L.Embedding(11, 4, mask_zero=True)(x))[:, -1]
    ),
    "CategoryEncoding": lambda: words(L.CategoryEncoding(11, output_mode="one_hot"), L.LSTM(3)),
    "CategoryEncoding of a row": lambda: words(
        L.CategoryEncoding(11, output_mode="one_hot"), L.Dense(3), steps=1
    ),
    "Masking": lambda: over_time(L.Masking(0.0), seq(L.LSTM, 3)),
    "BatchNormalization": lambda: over_time(L.BatchNormalization()),
    "BatchNormalization plain": lambda: over_time(L.BatchNormalization(scale=False, center=False)),
    "BatchNormalization 2": lambda: in_frames(L.Conv2D(3, 2), L.BatchNormalization(), frame=(4, 5, 2)),
    "LayerNormalization": lambda: over_time(L.LayerNormalization()),
    "LayerNormalization plain": lambda: over_time(L.LayerNormalization(scale=False, epsilon=0.1)),
    "GroupNormalization": lambda: in_frames(L.GroupNormalization(2), frame=(4, 5, 6)),
    "RMSNormalization": lambda: over_time(L.RMSNormalization(epsilon=0.01)),
    "SpectralNormalization": lambda: over_time(L.SpectralNormalization(L.Conv1D(3, 2)), L.LSTM(2)),
    "UnitNormalization": lambda: over_time(L.UnitNormalization()),
    "Rescaling": lambda: over_time(L.Rescaling(0.5, 2.0)),
    # recurrent
    "SimpleRNN": lambda: over_time(L.SimpleRNN(4)),
    "SimpleRNN relu": lambda: over_time(seq(L.SimpleRNN, 4, activation="relu", use_bias=False)),
    "LSTM": lambda: over_time(L.LSTM(4)),
    "LSTM sequences": lambda: over_time(seq(L.LSTM, 4), seq(L.LSTM, 3)),
    "LSTM without bias": lambda: over_time(seq(L.LSTM, 4, use_bias=False)),
    "LSTM functions": lambda: over_time(
        seq(L.LSTM, 4, activation="softsign", recurrent_activation="hard_sigmoid")
    ),
    "LSTM linear": lambda: over_time(seq(L.LSTM, 4, activation="linear")),
    "LSTM elu": lambda: over_time(seq(L.LSTM, 4, activation="elu", unit_forget_bias=False)),
    "LSTM stateful": lambda: (
        randomised(keras.Sequential([keras.Input(batch_shape=(B, T, F)), L.LSTM(4, stateful=True)])),
        numbers(B, T, F),
    ),
    "GRU": lambda: over_time(L.GRU(4)),
    "GRU before": lambda: over_time(seq(L.GRU, 4, reset_after=False)),
    "GRU without bias": lambda: over_time(
        seq(L.GRU, 4, use_bias=False), L.GRU(3, use_bias=False, reset_after=False)
    ),
    "GRU functions": lambda: over_time(seq(L.GRU, 4, activation="relu", recurrent_activation="hard_sigmoid")),
    "go_backwards": lambda: over_time(L.LSTM(4, go_backwards=True)),
    "go_backwards twice": lambda: over_time(
        seq(L.GRU, 4, go_backwards=True), L.Dense(3), seq(L.LSTM, 4, go_backwards=True)
    ),
    "go_backwards then forwards": lambda: over_time(seq(L.GRU, 4, go_backwards=True), L.LSTM(4)),
    "return_state LSTM": lambda: graph(states_of(L.LSTM), [(F,)]),
    "return_state GRU": lambda: graph(states_of(L.GRU, go_backwards=True), [(F,)]),
    "return_state RNN": lambda: graph(states_of(L.SimpleRNN, return_sequences=True), [(F,)]),
    "initial_state LSTM": lambda: graph(coder(L.LSTM, 2, True), [(F,)], [(3,)]),
    "initial_state GRU": lambda: graph(coder(L.GRU, 1), [(F,)], [(3,)]),
    "initial_state input": lambda: graph(
        lambda x, h: L.GRU(4, go_backwards=True)(x, initial_state=h), [(F,)], (4,)
    ),
    "initial_state Bidirectional": lambda: graph(
        lambda x, *s: seq(lambda **k: L.Bidirectional(L.LSTM(4, **k)))(x, initial_state=list(s)),
        [(F,)],
        *((4,),) * 4,
    ),
    "RNN": lambda: over_time(seq(L.RNN, L.GRUCell(4))),
    "RNN SimpleRNNCell": lambda: over_time(L.RNN(L.SimpleRNNCell(4))),
    "StackedRNNCells": lambda: over_time(L.RNN(stack(L.LSTMCell(3), L.GRUCell(4), L.LSTMCell(2)))),
    "StackedRNNCells back": lambda: over_time(
        seq(L.RNN, stack(L.GRUCell(4), L.GRUCell(3)), go_backwards=True), seq(L.GRU, 2, go_backwards=True)
    ),
    **{
        f"Bidirectional {mode}{' last' * last}": lambda mode=mode, last=last: over_time(
            L.Bidirectional(L.LSTM(4, return_sequences=not last), merge_mode=mode)
        )
        for mode in ("concat", "sum", "mul", "ave")
        for last in (False, True)
    },
    "Bidirectional none": lambda: graph(
        lambda x: L.Bidirectional(L.GRU(4, return_sequences=True), merge_mode=None)(x), [(F,)]
    ),
    "Bidirectional states": lambda: graph(
        lambda x: L.Bidirectional(L.LSTM(4, return_state=True, return_sequences=True))(x), [(F,)]
    ),
    "Bidirectional RNN": lambda: over_time(L.Bidirectional(L.RNN(stack(L.LSTMCell(3), L.GRUCell(4))))),
    "Bidirectional other": lambda: over_time(
        L.Bidirectional(L.LSTM(4), backward_layer=L.GRU(3, go_backwards=True))
    ),
    "Bidirectional functions": lambda: over_time(
        L.Bidirectional(seq(L.LSTM, 4), backward_layer=seq(L.LSTM, 4, go_backwards=True, activation="relu"))
    ),
    "Bidirectional of reversed": lambda: over_time(
        L.Bidirectional(seq(L.LSTM, 4, go_backwards=True), backward_layer=seq(L.LSTM, 4)), L.LSTM(3)
    ),
    "TimeDistributed": lambda: over_time(L.TimeDistributed(L.Dense(3, activation="relu")), L.LSTM(3)),
    "TimeDistributed Conv": lambda: over_time(
        L.TimeDistributed(L.Conv1D(4, 3, activation="relu")),
        L.TimeDistributed(L.MaxPooling1D(2)),
        L.TimeDistributed(L.Flatten()),
        L.GRU(3),
        frame=(8, 2),
    ),
    "TimeDistributed Conv2D": lambda: over_time(
        L.TimeDistributed(L.Conv2D(4, 3, padding="same")),
        L.TimeDistributed(L.BatchNormalization()),
        L.TimeDistributed(L.GlobalAveragePooling2D()),
        L.LSTM(3),
        frame=(6, 5, 2),
    ),
    "TimeDistributed model": lambda: over_time(
        L.TimeDistributed(keras.Sequential([keras.Input((8,)), L.Dense(4), L.BatchNormalization()])),
        L.LSTM(3),
        frame=(8,),
    ),
    # windows
    "Conv1D": lambda: over_time(L.Conv1D(4, 3), L.LSTM(3)),
    "Conv1D causal": lambda: over_time(L.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "Conv1D same": lambda: over_time(L.Conv1D(4, 4, padding="same", activation="relu")),
    "Conv1D stride": lambda: over_time(L.Conv1D(4, 3, strides=2)),
    "Conv1D same stride": lambda: over_time(L.Conv1D(4, 4, padding="same", strides=3), steps=T),
    "Conv1D groups": lambda: over_time(L.Conv1D(4, 3, groups=2, use_bias=False), frame=(6,)),
    "Conv1D flat": lambda: over_time(L.Conv1D(4, 3), L.MaxPooling1D(2), L.Flatten(), L.Dense(3), steps=T),
    "Conv1D reversed": lambda: over_time(seq(L.GRU, 4, go_backwards=True), L.Conv1D(4, 3), L.LSTM(3)),
    "Conv2D": lambda: in_frames(L.Conv2D(4, 3, strides=2, padding="same"), frame=(7, 6, 2)),
    "Conv2D groups": lambda: in_frames(L.Conv2D(4, (3, 2), dilation_rate=(2, 1), groups=2), frame=(7, 6, 2)),
    "Conv2D time": lambda: over_time(
        L.Conv2D(4, 3, padding="same", activation="relu"),
        L.MaxPooling2D((1, 2)),
        L.Conv2D(3, (2, 3), strides=(2, 1)),
        L.Reshape((-1, 6)),
        L.GRU(3),
        frame=(8, 1),
        steps=T,
    ),
    "DepthwiseConv1D": lambda: over_time(L.DepthwiseConv1D(3, depth_multiplier=2)),
    "DepthwiseConv2D": lambda: in_frames(L.DepthwiseConv2D(3, depth_multiplier=2), frame=(5, 6, 2)),
    "SeparableConv1D": lambda: over_time(L.SeparableConv1D(4, 3, depth_multiplier=2, activation="tanh")),
    "SeparableConv2D": lambda: in_frames(L.SeparableConv2D(4, 3, padding="same"), frame=(5, 6, 2)),
    "MaxPooling1D": lambda: over_time(L.MaxPooling1D(2)),
    "MaxPooling1D same": lambda: over_time(L.MaxPooling1D(3, strides=2, padding="same"), steps=T),
    "MaxPooling2D": lambda: in_frames(L.MaxPooling2D(2, padding="same"), frame=(7, 5, 2)),
    "AveragePooling1D": lambda: over_time(L.AveragePooling1D(3, strides=1)),
    "AveragePooling1D same": lambda: over_time(L.AveragePooling1D(3, strides=2, padding="same"), steps=T),
    "AveragePooling2D": lambda: in_frames(
        L.AveragePooling2D((3, 5), strides=2, padding="same"), frame=(7, 5, 2)
    ),
    "GlobalAveragePooling1D": lambda: over_time(seq(L.LSTM, 3), L.GlobalAveragePooling1D()),
    "GlobalMaxPooling1D": lambda: over_time(seq(L.LSTM, 3), L.GlobalMaxPooling1D()),
    "GlobalAveragePooling2D": lambda: in_frames(L.GlobalAveragePooling2D(), frame=(7, 5, 2)),
    "GlobalMaxPooling2D": lambda: in_frames(L.GlobalMaxPooling2D(keepdims=True), frame=(7, 5, 2)),
    "ZeroPadding1D": lambda: over_time(L.ZeroPadding1D((2, 1)), L.Conv1D(4, 3)),
    "ZeroPadding2D": lambda: in_frames(L.ZeroPadding2D(((1, 0), (2, 1))), L.Conv2D(3, 3), frame=(4, 5, 2)),
    # shapes
    "Flatten": lambda: over_time(seq(L.LSTM, 3), L.Flatten(), L.Dense(4), steps=T),
    "Flatten frames": lambda: in_frames(L.Flatten(), L.Dense(3), frame=(4, 5, 2)),
    "Reshape": lambda: over_time(L.Reshape((-1, 2, 3)), L.Reshape((T, 6)), L.LSTM(3), frame=(6,), steps=T),
    "Reshape away": lambda: over_time(
        L.Reshape((T * 2, 3)), L.Conv1D(3, 2), L.Flatten(), frame=(6,), steps=T
    ),
    "Permute": lambda: over_time(L.Permute((2, 1)), L.Dense(4), L.Flatten(), steps=T),
    "Permute frames": lambda: in_frames(L.Permute((3, 1, 2)), L.Flatten(), frame=(4, 5, 2)),
    "RepeatVector": lambda: over_time(L.LSTM(4), L.RepeatVector(T), seq(L.LSTM, 3), steps=T),
    "Permute and back": lambda: over_time(
        L.Permute((2, 1)), L.Dense(T), L.Permute((2, 1)), L.LSTM(4), L.Dense(2), steps=T
    ),
    "TimeDistributed of frames": lambda: in_frames(
        L.Permute((2, 1, 3)), L.TimeDistributed(L.Flatten()), L.GRU(4), frame=(4, 5, 2)
    ),
    "PReLU steps": lambda: over_time(L.PReLU(), L.LSTM(3), steps=T),
    "Normalization": lambda: over_time(
        L.Normalization(),
        L.Normalization(axis=None),
        L.Normalization(mean=[1, 2], variance=[0.5, 3]),
        frame=(2,),
    ),
    "Normalization inverse": lambda: in_frames(
        L.Normalization(invert=True), L.Normalization(mean=3, variance=4)
    ),
    "Rescaling channels": lambda: over_time(L.Rescaling([0.5, 2.0], [1.0, 3.0]), frame=(2,)),
    "Conv1DTranspose": lambda: over_time(
        L.Conv1DTranspose(3, 5, strides=2, padding="same", activation="relu"),
        L.Conv1DTranspose(2, 3, strides=2, use_bias=False),
        L.LSTM(3),
        steps=T,
    ),
    "UpSampling1D": lambda: over_time(L.UpSampling1D(3), L.Conv1D(3, 2), steps=T),
    "Cropping1D": lambda: over_time(L.Cropping1D((2, 1)), seq(L.LSTM, 3), L.Cropping1D((1, 0))),
    "Cropping1D frames": lambda: in_frames(L.Cropping1D((2, 1)), L.Flatten(), frame=(6, 3)),
    "GlobalAveragePooling1D channels": lambda: over_time(
        L.GlobalAveragePooling1D(data_format="channels_first"), L.Dense(2), steps=T
    ),
    "GlobalMaxPooling1D channels": lambda: over_time(
        seq(L.LSTM, 3), L.GlobalMaxPooling1D(data_format="channels_first", keepdims=True), steps=T
    ),
    "LSTMCell": lambda: graph(
        lambda x, h, c: (lambda y, s: [y, *s])(*L.LSTMCell(4)(x, [h, c])), (3,), (4,), (4,)
    ),
    # merges
    **{
        name: lambda name=name: graph(
            lambda x, y: getattr(L, name)()([L.Dense(4)(x), L.Dense(4)(y)]), [(F,)], [(3,)]
        )
        for name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
    },
    "Add row": lambda: graph(lambda x, y: L.Add()([L.Dense(4)(x), L.Reshape((1, 4))(y)]), [(F,)], (4,)),
    "Concatenate frames": lambda: graph(
        lambda x, y: L.Concatenate()([L.LSTM(3)(x), L.Dense(4)(y)]), [(F,)], (3,)
    ),
    "Dot": lambda: graph(lambda x, y: L.Dot(1, normalize=True)([x, y]), (5,), (5,)),
    "Dot sequences": lambda: graph(
        lambda x, y: L.Dot((2, 1))([L.Softmax()(L.Dot(2, normalize=True)([x, y])), y]),
        [(F,)],
        [(F,)],
        steps=T,
    ),
    "Dot last step": lambda: graph(
        lambda x: L.Dot(1)([x, L.Softmax()(L.Dot((1, 2))([L.LSTM(F)(x), x]))]), [(F,)], steps=T
    ),
    "Dot steps": lambda: graph(lambda x: L.Dot(1)([L.Softmax(axis=1)(L.Dense(1)(x)), x]), [(F,)]),
    "Multiply frames": lambda: graph(
        lambda x: L.LSTM(3)(
            L.Multiply()([x, L.Permute((2, 1))(L.RepeatVector(F)(L.Flatten()(L.Dense(1)(x))))])
        ),
        [(F,)],
        steps=T,
    ),
    # attention
    "Attention": lambda: graph(lambda x: L.Attention(use_scale=True)([x, seq(L.LSTM, F)(x)]), [(F,)]),
    "Attention two": lambda: graph(lambda x, y: L.Attention()([x, y]), [(F,)], [(F,)]),
    "Attention causal": lambda: graph(lambda x: L.Attention()([x, x], use_causal_mask=True), [(F,)]),
    "Attention concat": lambda: graph(
        lambda x: L.Attention(score_mode="concat", use_scale=True)([x, seq(L.LSTM, F)(x)]), [(F,)]
    ),
    "AdditiveAttention": lambda: graph(lambda x: L.AdditiveAttention()([x, seq(L.LSTM, F)(x)]), [(F,)]),
    "MultiHeadAttention": lambda: graph(lambda x: L.MultiHeadAttention(2, 3, 4)(x, x), [(F,)]),
    # graphs and models within models
    "shared": lambda: graph(
        lambda x, y: (lambda rnn: L.Concatenate()([rnn(x), rnn(y)]))(L.LSTM(4)), [(F,)], [(F,)]
    ),
    "outputs": lambda: graph(lambda x: {"a": L.LSTM(3)(x), "b": L.Dense(2)(x)}, [(F,)]),
    "nested": lambda: over_time(
        keras.Sequential(
            [keras.Input((None, F)), L.BatchNormalization(), L.Dense(4), L.BatchNormalization()]
        ),
        seq(L.LSTM, 3),
        keras.Sequential([keras.Input((None, 3)), keras.Sequential([keras.Input((None, 3)), L.Dense(2)])]),
    ),
    "frozen": lambda: over_time(
        (lambda one: (setattr(one, "trainable", False), one)[1])(
            keras.Sequential([keras.Input((None, F)), L.BatchNormalization(), L.Dense(4)])
        ),
        L.BatchNormalization(),
        L.LSTM(3),
    ),
    # operations
    "operation arithmetic": lambda: graph(
        lambda x: (2 * L.Dense(4)(x) + 1 - L.Dense(4)(x) / 3) * L.Dense(4)(x), [(F,)]
    ),
    "operation functions": lambda: graph(
        lambda x: keras.ops.tanh(keras.ops.exp(-x)) + keras.ops.sigmoid(keras.ops.relu(abs(x))), [(F,)]
    ),
    "operation activations": lambda: graph(
        lambda x: [
            keras.ops.softplus(9 * x),
            keras.ops.gelu(x) + keras.ops.gelu(x, approximate=False),
        ],
        [(F,)],
    ),
    "operation comparisons": lambda: graph(
        lambda x: [
            keras.ops.where(x > 0, x, 0.1 * x) + keras.ops.where(x <= 0.3, 1.0, x),
            x * (x >= 0.2) - x * (x < -0.5) * keras.ops.not_equal(x, 2) + x * keras.ops.equal(x, x),
        ],
        [(F,)],
    ),
    "operation roots": lambda: graph(
        lambda x: keras.ops.log(keras.ops.sqrt(keras.ops.maximum(keras.ops.minimum(x, 2.0), 0.1))), [(F,)]
    ),
    "operation GetItem": lambda: graph(lambda x: L.Dense(3)(x[:, -1, 1:4]), [(F,)]),
    "operation GetItem, first steps": lambda: graph(
        lambda x: L.Dense(3)(x[:, 0] * x[:, 2]) - L.Dense(3)(x[:, -2]), [(F,)]
    ),
    "operation GetItem, steps": lambda: graph(
        lambda x: [x[:, 2:], x[:, 1:-2, 0], L.GRU(3)(x[:, -4:]), L.Flatten()(x[:, :3])], [(F,)], steps=T
    ),
    "operation shapes": lambda: graph(
        lambda x: (
            keras.ops.matmul(keras.ops.reshape(x, (-1, T, F)), keras.ops.transpose(x, (0, 2, 1)))
            + keras.ops.squeeze(keras.ops.reshape(keras.ops.square(L.LSTM(T)(x)), (-1, 1, T, 1)), -1)
        ),
        [(F,)],
        steps=T,
    ),
    "operation Clip, Power": lambda: graph(
        lambda x: keras.ops.clip(x, -0.5, 0.2) + keras.ops.power(keras.ops.abs(x), L.Dense(F)(x)) - x**2,
        [(F,)],
    ),
    "operation Flip": lambda: graph(
        lambda x: [
            keras.ops.flip(seq(L.GRU, 3)(keras.ops.flip(x, axis=1)), axis=1),
            L.Add()([seq(L.LSTM, 3)(x), keras.ops.flip(seq(L.LSTM, 3, go_backwards=True)(x), axis=1)]),
            L.Concatenate()([keras.ops.flip(x, axis=1)[:, 0], seq(L.GRU, 3, go_backwards=True)(x)[:, -1]]),
        ],
        [(F,)],
    ),
    "operation Stack": lambda: graph(
        lambda x, y: [
            keras.ops.stack([L.Dense(3)(x), L.LSTM(3)(y)], axis=1),
            L.GRU(2)(keras.ops.stack([L.Dense(3)(x), L.Dense(3)(x)], axis=1)),
            keras.ops.stack([y, y * 2, -y], axis=-1),
        ],
        (F,),
        [(F,)],
    ),
    "operation OneHot": lambda: of_words(lambda x: L.LSTM(3)(keras.ops.one_hot(x, 11))),
    "operation OneHot, a mask that the model computes": lambda: of_words(
        lambda x: L.GRU(3)(seq(L.LSTM, 3)(L.Embedding(11, 4)(x), mask=x != 0), mask=keras.ops.not_equal(x, 0))
    ),
    "operation reductions": lambda: graph(
        lambda x: [
            keras.ops.mean(x, axis=1) + keras.ops.max(x, axis=1),
            keras.ops.sum(x, axis=(1, 2)),
            x - keras.ops.mean(x, axis=1, keepdims=True),
            x * keras.ops.softmax(keras.ops.silu(keras.ops.max(x, axis=-1, keepdims=True) * x)),
        ],
        [(F,)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_agrees_with_keras(name, tmp_path):
    model, given = CASES[name]()
    agrees(model, given, tmp_path)


def test_the_page_lists_the_layers():
    page = (DOCS / "keras.md").read_text()
    found = re.search(r"<!-- layers -->(.*?)<!-- end -->", page, re.S)
    assert found is not None
    extra = {"SpectralNormalization", "TimeDistributed", "InputLayer", "Sequential", "Functional"}
    cells = {"SimpleRNNCell", "GRUCell", "LSTMCell", "StackedRNNCells"}
    assert set(re.findall(r"`(\w+)`", found.group(1))) == set(LAYERS) | extra | cells
    found = re.search(r"<!-- operations -->(.*?)<!-- end -->", page, re.S)
    assert found is not None and set(re.findall(r"`(\w+)`", found.group(1))) == set(OPERATIONS)


@pytest.mark.parametrize("first", [L.Embedding(9, 4, mask_zero=True), L.Masking(), L.Conv1D(4, 2)])
def test_masks_that_are_lengths_warn(first, tmp_path):
    frame = () if isinstance(first, L.Embedding) else (4,)
    model = keras.Sequential([keras.Input((None, *frame)), first, L.LSTM(3)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.save(tmp_path / "net.keras")
        tr.load(tmp_path / "net.keras")
    told = [one for one in caught if "masks steps by their numbers" in str(one.message)]
    assert len(told) == (not isinstance(first, L.Conv1D)) and all(one.filename == __file__ for one in told)
