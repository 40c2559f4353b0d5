"""Keras files as their authors publish them, against outputs that Keras recorded."""

from __future__ import annotations

import numpy as np
import pytest
from keras_files import close
from onnx_files import MODELS, needs_models

import tinyrnn as tr

pytest.importorskip("h5py")
pytestmark = needs_models


def test_a_sensor_compensation():
    net = tr.load(MODELS / "ao_gru_model.keras")
    x = np.load(MODELS / "ao_gru_model.keras.in.npy").swapaxes(0, 1)
    y = net(x)
    close(y, np.load(MODELS / "ao_gru_model.keras.out.npy"))
    stream = net.stream(batch=x.shape[1])
    for frame in x:
        last = stream.step(frame)
    assert np.array_equal(last, y)


def test_sleep_stages_with_a_masked_row():
    net = tr.load(MODELS / "sleepecg_ws_gru.keras")
    with np.load(MODELS / "sleepecg_ws_gru_golden.npz") as golden:
        x, expected = golden["x"].swapaxes(0, 1), golden["y"].swapaxes(0, 1)
    y = net(x, lengths=[50, 30])
    close(y[:, 0], expected[:, 0])
    close(y[:30, 1], expected[:30, 1])
    names = tr.load_weights(MODELS / "sleepecg_ws_gru.keras")
    assert names["layers/bidirectional/forward_layer/cell/vars/0"].shape == (64, 24)
    assert not any(name.startswith("optimizer") for name in names)
