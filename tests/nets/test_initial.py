"""The weights that layers start from: in pieces the same numbers as at once, in no more memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from memory import within

import tinyrnn as tr

# Larger than a piece of 2¹⁶ numbers, a piece and a bit, cut within rows and within groups of panels.
NETS: dict[str, tuple[Callable[[], tr.Net], float]] = {
    "small": (lambda: tr.GRU(3, 5), 5),
    "rnn": (lambda: tr.RNN(7, 300), 300),
    "lstm": (lambda: tr.LSTM(70, 129, bidirectional=True, proj_size=33), 129),
    "gru": (lambda: tr.GRU(33, 161, bias=False), 161),
    "cell": (lambda: tr.LSTMCell(65, 140), 140),
    "wide": (lambda: tr.Linear(2**16 + 3, 3), 2**16 + 3),
    "piece": (lambda: tr.Linear(2**12, 2**4), 2**12),
    "tall": (lambda: tr.Linear(2, 70_001), 2),
    "conv1d": (lambda: tr.Conv1d(30, 90, 27, groups=2), 15 * 27),
    "embedding": (lambda: tr.Embedding(5003, 29), 0),
}


@pytest.mark.parametrize("name", NETS)
def test_weights_are_those_of_one_draw_for_each_tensor(name: str) -> None:
    make, fan = NETS[name]
    tr.manual_seed(11)
    net = make()
    generator = np.random.default_rng([11, 0])
    bound = 1 / math.sqrt(fan) if fan else 0.0
    for key, array in net.state_dict().items():
        if fan:
            drawn = generator.uniform(-bound, bound, array.shape)
        else:
            drawn = generator.standard_normal(array.shape)
        assert np.array_equal(array, drawn.astype(np.float32)), key


@pytest.mark.parametrize(
    "make",
    [lambda: tr.RNN(4, 2000), lambda: tr.Linear(2**19, 16), lambda: tr.Embedding(2**15, 128)],
    ids=["rnn", "linear", "embedding"],
)
def test_drawing_takes_the_weights_and_a_piece(make: Callable[[], Any]) -> None:
    net = make()
    core = net._cores()[0]
    tr.Linear(1, 1).weight  # noqa: B018  # numpy.random is imported
    with within(core.nbytes + 2**21):
        core.prepare()


@pytest.mark.parametrize("row", [0, 3, 2047, 4095, 4999])
def test_the_row_of_padding_begins_as_zeros(row):
    """Wherever the pieces are cut that a table is drawn in."""
    tr.manual_seed(4)
    plain = tr.Embedding(5000, 48).state_dict()["weight"]
    tr.manual_seed(4)
    weight = tr.Embedding(5000, 48, padding_idx=row).state_dict()["weight"]
    assert not weight[row].any()
    np.testing.assert_array_equal(np.delete(weight, row, 0), np.delete(plain, row, 0))


@pytest.mark.parametrize(
    ("seed", "error"), [("a", TypeError), (1.5, TypeError), (None, TypeError), (-1, ValueError)]
)
def test_seeds_that_are_refused_change_nothing(seed: object, error: type[Exception]) -> None:
    tr.manual_seed(3)
    right = tr.Linear(4, 5).weight
    tr.manual_seed(3)
    with pytest.raises(error, match="manual_seed: seed is"):
        tr.manual_seed(seed)
    assert np.array_equal(tr.Linear(4, 5).weight, right)
