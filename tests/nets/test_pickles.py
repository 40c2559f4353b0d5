"""Pickles of earlier versions name modules that have changed; they load all the same."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr

DESCRIPTION = {
    "type": "Sequential",
    "layers": {
        "0": {"type": "Linear", "arguments": {"in_features": 2, "out_features": 2, "bias": True}},
        "1": {"type": "LeakyReLU", "arguments": {"negative_slope": 0.5, "inplace": False}},
    },
}
TENSORS = {
    "0.weight": np.array([[1, 2], [3, 4]], np.float32),
    "0.bias": np.array([-10, 1], np.float32),
}


def earlier(name: str, *arguments: Any) -> bytes:
    """The pickle of a call of a function, or of a class, of the module ``tinyrnn.model``."""
    named = b"\x80\x02ctinyrnn.model\n" + name.encode() + b"\n"
    if not arguments:
        return named + b"."
    return named + pickle.dumps(arguments, 2)[2:-1] + b"R."


@pytest.mark.parametrize("more", [(), ([True, False, True],), ([True, False, True], [["bias"], []])])
def test_nets(more: tuple[Any, ...]) -> None:
    net = pickle.loads(earlier("_rebuild", DESCRIPTION, TENSORS, *more))
    assert type(net) is tr.Sequential and net.eval()([1, 1]).tolist() == [-3.5, 8]
    assert net.requires_grad("0.bias") == (len(more) < 2)
    if more:
        net = pickle.loads(earlier("_rebuild", DESCRIPTION, TENSORS, *more))
        assert [mode for _, mode in net._modes()] == more[0]


def test_classes_and_what_methods_gave() -> None:
    assert pickle.loads(earlier("Net")) is tr.Net
    assert pickle.loads(earlier("Sequential")) is tr.Sequential
    assert pickle.loads(earlier("Memory", 1, 2, 3)) == tr.Memory(weights=1, state=2, scratch=3)
    result = pickle.loads(earlier("LoadResult", ["a"], []))
    assert type(result) is type(tr.ReLU().load_state_dict({})) and result.missing_keys == ["a"]


def test_states() -> None:
    state = tr.LSTM(2, 3).stream().state.copy()
    twin = pickle.loads(pickle.dumps(state))
    assert twin.layout() == state.layout()
    assert b"tinyrnn.tensors" in pickle.dumps(state)
    older = pickle.dumps(state, 2).replace(b"ctinyrnn.tensors\nSlot\n", b"ctinyrnn.streams\nSlot\n")
    assert b"tinyrnn.tensors" not in older and pickle.loads(older).layout() == state.layout()
