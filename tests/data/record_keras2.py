"""Record keras/: models that Keras 2 saved, with inputs and outputs.

    pip install tensorflow-cpu tf_keras
    TF_USE_LEGACY_KERAS=1 python tests/data/record_keras2.py

Each model goes into one file, `.h5` or `.keras`, and the arrays of all into keras/keras2.npz.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tf_keras as keras

L = keras.layers
FOLDER = Path(__file__).parent / "keras"
T, B, F = 6, 2, 4


def words() -> keras.Model:
    """Two directions over words, hard sigmoids of Keras 2, both kinds of GRU."""
    return keras.Sequential(
        [
            L.Embedding(9, F, input_shape=(None,)),
            L.Bidirectional(L.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid")),
            L.GRU(3, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid"),
            L.GRU(3, go_backwards=True),
            L.Dense(2, activation="hard_sigmoid"),
        ]
    )


def coder() -> keras.Model:
    """A functional model: an encoder's states begin a decoder; a model within it; BatchNormalization."""
    x, y = keras.Input((None, F), name="source"), keras.Input((None, F), name="target")
    inner = keras.Sequential(
        [L.BatchNormalization(input_shape=(None, F)), L.Dense(F), L.BatchNormalization()]
    )
    _, h, c = L.LSTM(3, return_state=True)(inner(x))
    z = L.LSTM(3, return_sequences=True)(inner(y), initial_state=[h, c])
    z = L.Add()([z, L.TimeDistributed(L.Dense(3))(y)])
    return keras.Model([x, y], [L.Dense(2, activation="softmax")(z), h])


def stack() -> keras.Model:
    """Convolutions over time, a pool, and a stack of cells."""
    return keras.Sequential(
        [
            keras.Input((None, F)),
            L.Conv1D(3, 3, padding="causal", activation="relu"),
            L.LayerNormalization(),
            L.MaxPooling1D(2),
            L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(2)]), return_sequences=True),
            L.GlobalAveragePooling1D(),
        ]
    )


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    rng, arrays = np.random.default_rng(0), {}
    for make in (words, coder, stack):
        model, name = make(), make.__name__
        for weight in model.weights:
            values = rng.uniform(-0.7, 0.7, weight.shape)
            weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
        given = [
            rng.integers(0, 9, (B, T)) if len(port.shape) == 2 else rng.standard_normal((B, T, F), np.float32)
            for port in model.inputs
        ]
        found = model(given if len(given) > 1 else given[0], training=False)
        outputs = found if isinstance(found, (list, tuple)) else [found]
        for suffix in (".h5", ".keras"):
            model.save(FOLDER / f"{name}{suffix}")
        arrays |= {f"{name}.in{i}": array for i, array in enumerate(given)}
        arrays |= {f"{name}.out{i}": np.asarray(array) for i, array in enumerate(outputs)}
    np.savez_compressed(FOLDER / "keras2.npz", **arrays)


main()
