"""Record tf2onnx/: models of Keras that tf2onnx wrote, with inputs and TensorFlow's outputs.

    pip install tensorflow-cpu==2.15.1 tf2onnx==1.16.1 onnx==1.15.0 'numpy<2' 'protobuf<4.24'
    python tests/data/record_tf2onnx.py

Each model goes into one .onnx file, and the arrays of all into tf2onnx/tf2onnx.npz.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import tf2onnx
from tensorflow import keras

L = keras.layers
FOLDER = Path(__file__).parent / "tf2onnx"
T, B, F = 6, 2, 4


def loop() -> keras.Model:
    """Masked steps and a GRU whose reset gate comes first: a Loop that ends by a condition."""
    x = keras.Input((None, F))
    h = L.GRU(3, reset_after=False, return_sequences=True)(L.Masking()(x))
    return keras.Model(x, L.Dense(2)(h))


def words() -> keras.Model:
    """An index that is a row of a table, and a mask where it is 0; the batch is fixed."""
    x = keras.Input((None,), batch_size=B, dtype="int32")
    return keras.Model(x, L.Dense(2)(L.LSTM(3)(L.Embedding(9, F, mask_zero=True)(x))))


def heads() -> keras.Model:
    """Attention whose keys come first, and a norm of layers that is one of batches."""
    x = keras.Input((None, F))
    h = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    y = L.LayerNormalization()(L.Add()([h, L.MultiHeadAttention(2, 3)(h, h)]))
    return keras.Model(x, L.Dense(2)(y))


def coder() -> keras.Model:
    """A vector that is repeated for as many steps as the input has."""
    x = keras.Input((T, F))
    h = L.RepeatVector(T)(L.LSTM(3)(x))
    return keras.Model(x, L.TimeDistributed(L.Dense(F))(L.GRU(3, return_sequences=True)(h)))


MODELS = ((loop, 13), (words, 15), (heads, 15), (coder, 18))


def main() -> None:
    rng = np.random.default_rng(0)
    FOLDER.mkdir(exist_ok=True)
    arrays = {}
    for make, opset in MODELS:
        keras.backend.clear_session()
        tf.keras.utils.set_random_seed(0)
        model = make()
        for weight in model.weights:
            weight.assign(weight + rng.normal(0, 0.1, weight.shape))
        x = rng.standard_normal((B, T, F)).astype(np.float32)
        x[1, 4:] = 0
        if make is words:
            x = rng.integers(1, 9, (B, T)).astype(np.int32)
            x[1, 4:] = 0
        proto, _ = tf2onnx.convert.from_keras(model, opset=opset)
        (FOLDER / f"{make.__name__}.onnx").write_bytes(proto.SerializeToString())
        arrays |= {f"{make.__name__}.x": x, f"{make.__name__}.y": model(x).numpy()}
    np.savez_compressed(FOLDER / "tf2onnx.npz", **arrays)


if __name__ == "__main__":
    main()
