"""Losses: against formulas in float64, finite differences, recorded values, and PyTorch where it is there."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import _core
from tinyrnn.losses import NAMES, Loss

FUSED = [isa for isa in tr.available_isas() if _core.is_fused(isa)]
DENSE = ["MSELoss", "L1Loss", "HuberLoss", "BCEWithLogitsLoss"]


# ---- the formulas, in float64 --------------------------------------------------------------------------


def log_softmax(y):
    y = y - y.max(axis=-1, keepdims=True)
    return y - np.log(np.exp(y).sum(axis=-1, keepdims=True))


def oracle(loss, y, target):
    """The value of every number, target or row, and the divisor of a mean."""
    y = y.astype(np.float64)
    if isinstance(loss, tr.MSELoss):
        return (y - target) ** 2, y.size
    if isinstance(loss, tr.L1Loss):
        return abs(y - target), y.size
    if isinstance(loss, tr.HuberLoss):
        d = abs(y - target)
        return np.where(d < loss.delta, d * d / 2, loss.delta * (d - loss.delta / 2)), y.size
    if isinstance(loss, tr.BCEWithLogitsLoss):
        weight = 1.0 if loss.weight is None else loss.weight.astype(np.float64)
        positive = 1.0 if loss.pos_weight is None else loss.pos_weight.astype(np.float64)
        log_p, log_q = -np.logaddexp(0, -y), -np.logaddexp(0, y)
        return -weight * (positive * target * log_p + (1 - target) * log_q), y.size
    assert isinstance(loss, tr.CrossEntropyLoss)
    classes = y.shape[-1]
    weight = np.ones(classes) if loss.weight is None else loss.weight.astype(np.float64)
    if target.dtype.kind == "f":
        shares, divisor = target.astype(np.float64), y[..., 0].size
        counts = np.ones(target.shape[:-1])
    else:
        counts = (target != loss.ignore_index).astype(np.float64)
        shares = np.eye(classes)[np.where(target == loss.ignore_index, 0, target)]
        divisor = (counts * (shares @ weight)).sum()
    shares = (1 - loss.label_smoothing) * shares + loss.label_smoothing / classes
    return -counts * (weight * shares * log_softmax(y)).sum(axis=-1), divisor


def reduced(loss, y, target):
    values, divisor = oracle(loss, y, target)
    return {"mean": values.sum() / divisor, "sum": values.sum(), "none": values}[loss.reduction]


def ctc_oracle(log_p, labels, blank):
    """Every path, one by one."""
    total = 0.0
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        collapsed = [c for c, _ in itertools.groupby(path) if c != blank]
        if collapsed == list(labels):
            total += math.exp(sum(log_p[t, c] for t, c in enumerate(path)))
    return -math.log(total) if total else math.inf


# ---- cases ---------------------------------------------------------------------------------------------


def target_for(generator, loss, shape):
    """A random target for a loss, some of it ignored."""
    if not isinstance(loss, tr.CrossEntropyLoss):
        kind = generator.uniform if isinstance(loss, tr.BCEWithLogitsLoss) else generator.normal
        return kind(size=shape).astype(np.float32)
    if loss.ignore_index < 0 and generator.random() < 0.4:
        return generator.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
    target = generator.integers(0, shape[-1], shape[:-1])
    if loss.ignore_index < 0 or shape[-1] > 3:
        target[generator.random(target.shape) < 0.2] = loss.ignore_index
    return target


def options(generator, name, classes):
    """Random arguments."""
    given = {"reduction": str(generator.choice(["mean", "sum", "none"]))}
    weight = generator.uniform(0.2, 3, classes).astype(np.float32)
    if name == "HuberLoss":
        given["delta"] = float(generator.uniform(0.1, 2))
    if name == "BCEWithLogitsLoss":
        given["pos_weight"] = [None, weight[:1].reshape(()), weight][generator.integers(3)]
        given["weight"] = [None, weight[-1:].reshape(()), weight * weight][generator.integers(3)]
    if name == "CrossEntropyLoss":
        given["weight"] = [None, weight][generator.integers(2)]
        given["label_smoothing"] = [0.0, 0.1, 1.0][generator.integers(3)]
        given["ignore_index"] = [-100, 2][generator.integers(2)]
    return given


def case(seed, name):
    generator = np.random.default_rng([seed, *name.encode()])
    shape = tuple(int(n) for n in generator.integers(1, 10, generator.integers(2, 5)))
    shape = (*shape[:-1], int(generator.choice([1, 2, 3, 7, 15, 16, 17, 40])))
    given = options(generator, name, shape[-1])
    loss = getattr(tr, name)(**given)
    y = (3 * generator.standard_normal(shape)).astype(np.float32)
    return generator, given, loss, y, target_for(generator, loss, shape)


def assert_close(value, dy, expected, expected_dy):
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6 if np.ndim(value) else 1e-30)
    assert dy.dtype == np.float32
    np.testing.assert_allclose(dy, expected_dy, rtol=0, atol=1e-5 * max(np.abs(expected_dy).max(), 1e-30))


def counted(y_shape, lengths, batch_first):
    """A mask of the steps that count: (T, B), or (B, T)."""
    steps = y_shape[1 if batch_first else 0]
    mask = np.arange(steps) < np.asarray(lengths)[:, None]
    return mask if batch_first else mask.T


def drawn(generator, name):
    """A loss, an output (T, B, ...) or (B, T, ...), and its target."""
    shape = tuple(int(n) for n in generator.integers(1, 8, 2)) + (2, 5)[generator.integers(2) :]
    loss = getattr(tr, name)(**options(generator, name, shape[-1]))
    y = (2 * generator.standard_normal(shape)).astype(np.float32)
    return loss, y, target_for(generator, loss, shape)


def spoiled(array, counts):
    """A copy with NaN, or a wild class, where nothing counts."""
    copy = array.copy()
    copy[~counts] = np.nan if array.dtype.kind == "f" else 12345
    return copy


# ---- against formulas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
@pytest.mark.parametrize("seed", range(12))
def test_formula_and_finite_differences(seed, name):
    generator, _, loss, y, target = case(seed, name)
    if loss.reduction == "mean" and oracle(loss, y, target)[1] == 0:
        pytest.skip("nothing counts")
    value, dy = loss(y, target)
    np.testing.assert_allclose(value, reduced(loss, y, target), rtol=1e-6, atol=2e-6)
    assert dy.shape == y.shape
    for _ in range(8):
        place = tuple(generator.integers(0, y.shape))
        step = np.zeros(y.shape)
        step[place] = 1e-5
        ahead, behind = (np.sum(reduced(loss, y + sign * step, target)) for sign in (1, -1))
        kink = abs(y[place] - target[place]) < 1e-4 if name == "L1Loss" else False
        if not kink:
            assert dy[place] == pytest.approx(
                (ahead - behind) / 2e-5, rel=2e-4, abs=2e-6 * max(1.0, float(abs(dy).max()))
            )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
@pytest.mark.parametrize("seed", range(8))
def test_lengths_leave_the_rest_out(seed, name, batch_first):
    """The loss is that of the counted frames, one after another; NaN and wild targets beyond are not read."""
    generator = np.random.default_rng([seed, *name.encode(), 1])
    loss, y, target = drawn(generator, name)
    shape = y.shape
    batch, steps = shape[:2] if batch_first else shape[1::-1]
    lengths = generator.integers(1, steps + 1, batch)
    mask = counted(shape, lengths, batch_first)
    expected, expected_dy = loss(y[mask], target[mask])
    dirty, wild = spoiled(y, mask), spoiled(target, mask)
    value, dy = loss(dirty, wild, lengths, batch_first=batch_first)
    if loss.reduction == "none":
        assert not value[~mask].any()
        value = value[mask]
    elif not batch_first:
        assert value == expected or math.isnan(value)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert np.array_equal(dy[mask], expected_dy)
    assert not dy[~mask].any()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
@pytest.mark.parametrize("seed", range(8))
def test_a_mask_leaves_steps_out(seed, name, batch_first):
    """The formula in float64, finite differences, and the counted frames alone; others are not read."""
    generator = np.random.default_rng([seed, *name.encode(), 2])
    loss, y, target = drawn(generator, name)
    shape = y.shape
    batch, steps = shape[:2] if batch_first else shape[1::-1]
    mask = generator.random(shape[:2]) < 0.6
    mask[0, 0] = True
    lengths = generator.integers(1, steps + 1, batch) if seed % 2 else None
    counts = mask if lengths is None else mask & counted(shape, lengths, batch_first)
    dirty, wild = spoiled(y, counts), spoiled(target, counts)
    value, dy = loss(dirty, wild, lengths, batch_first=batch_first, mask=mask)
    assert not dy[~counts].any()
    if loss.reduction == "none":
        assert not value[~counts].any()
        value = value[counts]
    if loss.reduction == "mean" and oracle(loss, y[counts], target[counts])[1] == 0:
        assert math.isnan(value)
        return
    np.testing.assert_allclose(value, reduced(loss, y[counts], target[counts]), rtol=1e-6, atol=2e-6)
    assert np.array_equal(dy[counts], loss(y[counts], target[counts])[1])
    for place in np.argwhere(counts)[:3]:
        step = np.zeros(shape)
        step[tuple(place)] = 1e-5 * generator.standard_normal(shape[2:])
        ahead, behind = (np.sum(reduced(loss, (y + sign * step)[counts], target[counts])) for sign in (1, -1))
        slope = float((dy * step).sum())
        assert slope == pytest.approx(
            (ahead - behind) / 2, rel=1e-3, abs=1e-9 * max(1.0, float(abs(dy).max()))
        )
    again = loss(dirty, wild, lengths, batch_first=batch_first, mask=mask.astype(float).tolist())
    assert np.array_equal(again[1], dy)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
def test_a_mask_of_the_first_steps_is_lengths(name, batch_first):
    generator, shape = np.random.default_rng(8), (6, 6, 3)
    lengths = generator.integers(1, 7, 6)
    mask = counted(shape, lengths, batch_first)
    for _ in range(6):
        loss = getattr(tr, name)(**options(generator, name, 3))
        y = (2 * generator.standard_normal(shape)).astype(np.float32)
        for goals in (shape, shape[1:]):
            target = target_for(generator, loss, goals)
            one, dy = loss(y, target, lengths, batch_first=batch_first)
            other, gradient = loss(y, target, batch_first=batch_first, mask=mask)
            assert np.array_equal(one, other, equal_nan=True) and dy.tobytes() == gradient.tobytes()


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
def test_a_target_without_steps_is_the_last_that_a_mask_keeps(name, batch_first, ends):
    generator, shape = np.random.default_rng(6), (4, 6, 3)
    for _ in range(6):
        loss = getattr(tr, name)(**options(generator, name, 3))
        y = (2 * generator.standard_normal(shape)).astype(np.float32)
        batch, steps = shape[:2] if batch_first else shape[1::-1]
        target = target_for(generator, loss, (batch, 3))
        lengths = generator.integers(1, steps + 1, batch) if ends else None
        mask = generator.random((batch, steps)) < 0.5
        mask[1], mask[0, 0] = False, True  # row 1 does not count
        counts = mask if lengths is None else mask & (np.arange(steps) < lengths[:, None])
        rows = np.flatnonzero(counts.any(1))
        last = np.array([np.flatnonzero(counts[row])[-1] for row in rows])
        place = (rows, last) if batch_first else (last, rows)
        expected, expected_dy = loss(y[place], target[rows])
        wild = target.copy()
        wild[~counts.any(1)] = np.nan if target.dtype.kind == "f" else 77
        value, dy = loss(y, wild, lengths, batch_first=batch_first, mask=mask if batch_first else mask.T)
        if loss.reduction == "none":
            value = value[rows]
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert np.array_equal(dy[place], expected_dy)
        dy[place] = 0
        assert not dy.any()
        if target.dtype.kind == "i":
            wild[rows[0]] = 99  # of all that are wrong the one that counts is named
            with pytest.raises(IndexError, match=rf"target 99 at \[{rows[0]}\]"):
                loss(y, wild, lengths, batch_first=batch_first, mask=mask if batch_first else mask.T)


def test_masks_of_one_axis():
    generator, mse = np.random.default_rng(7), tr.MSELoss()
    y, target = generator.standard_normal((2, 5, 3)).astype(np.float32)
    mask = np.array([1, 0, 1, 0, 0])
    assert mse(y, target, mask=mask)[0] == mse(y[[0, 2]], target[[0, 2]])[0]
    assert mse(y, target[2], mask=mask)[0] == mse(y[2], target[2])[0]  # the last step that counts
    both = generator.random((5, 3)) < 0.5
    assert mse(y, target, mask=both)[0] == mse(y[both], target[both])[0]
    assert math.isnan(mse(y, target, mask=np.zeros(5, bool))[0])
    assert tr.MSELoss(reduction="sum")(y, target, mask=np.zeros(5, bool))[0] == 0


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
def test_a_target_without_steps_is_the_last_steps(name, batch_first, ends):
    generator = np.random.default_rng(5)
    shape = (4, 6, 3)
    for _ in range(6):
        loss = getattr(tr, name)(**options(generator, name, 3))
        y = (2 * generator.standard_normal(shape)).astype(np.float32)
        batch, steps = shape[:2] if batch_first else shape[1::-1]
        target = target_for(generator, loss, (batch, 3))
        lengths = generator.integers(1, steps + 1, batch) if ends else None
        rows = np.arange(batch)
        last = np.full(batch, steps) - 1 if lengths is None else lengths - 1
        place = (rows, last) if batch_first else (last, rows)
        expected, expected_dy = loss(y[place], target)
        value, dy = loss(y, target, lengths, batch_first=batch_first)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert np.array_equal(dy[place], expected_dy)
        dy[place] = 0
        assert not dy.any()


@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
def test_the_order_of_axes_changes_no_gradient(name):
    generator = np.random.default_rng(6)
    loss = getattr(tr, name)()
    y = generator.standard_normal((5, 4, 3)).astype(np.float32)
    target = target_for(generator, loss, y.shape)
    lengths = [5, 1, 3, 2]
    value, dy = loss(y, target, lengths)
    swapped, swapped_dy = loss(y.swapaxes(0, 1), target.swapaxes(0, 1), lengths, batch_first=True)
    assert swapped == pytest.approx(value, rel=1e-12)
    assert np.array_equal(swapped_dy.swapaxes(0, 1), dy)
    full, full_dy = loss(y, target, [5] * 4)
    plain, plain_dy = loss(y, target)
    assert full == plain and np.array_equal(full_dy, plain_dy)


# ---- CTC -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[], [1], [2, 2], [1, 2], [1, 2, 1], [1, 1, 1], [2, 2, 2, 1]])
@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_is_the_sum_of_all_paths(labels, blank):
    labels = [label if blank == 0 else label - 1 for label in labels]
    y = log_softmax(np.random.default_rng(len(labels)).normal(0, 2, (5, 3)))
    value, dy = tr.CTCLoss(blank, reduction="sum")(y, np.array(labels, np.int32))
    expected = ctc_oracle(y, labels, blank)
    assert value == pytest.approx(expected, rel=1e-6)
    if math.isinf(expected):
        return
    logits = y.copy()  # the gradient is that of logits whose softmax y is
    for place in np.ndindex(y.shape):
        step = np.zeros(y.shape)
        step[place] = 1e-5
        ahead, behind = (ctc_oracle(log_softmax(logits + sign * step), labels, blank) for sign in (1, -1))
        assert dy[place] == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=2e-6)


def test_ctc_targets_in_every_form():
    generator = np.random.default_rng(3)
    y = log_softmax(generator.normal(size=(9, 3, 5))).astype(np.float32)
    rows, counts, lengths = [[1, 2, 2], [], [4]], [3, 0, 1], [9, 4, 6]
    padded = np.full((3, 4), 99)
    for row, place in zip(rows, padded, strict=True):
        place[: len(row)] = row
    dirty = y.copy()
    dirty[~counted(y.shape, lengths, False)] = np.nan
    for reduction in ("mean", "sum", "none"):
        loss = tr.CTCLoss(reduction=reduction)
        value, dy = loss(y, rows, lengths)
        assert not dy[~counted(y.shape, lengths, False)].any()
        forms = [
            ((padded, counts), None),
            (padded, counts),
            (padded.tolist(), counts),
            (np.array([1, 2, 2, 4]), counts),
            (rows, counts),
        ]
        for target, target_lengths in forms:
            other, other_dy = loss(dirty, target, lengths, target_lengths)
            assert np.array_equal(other, value) and np.array_equal(other_dy, dy)
        other, other_dy = loss(y.swapaxes(0, 1), rows, lengths, batch_first=True)
        assert np.array_equal(other, value) and np.array_equal(other_dy.swapaxes(0, 1), dy)
        alone = [loss(y[:length, b], np.array(rows[b], np.int64)) for b, length in enumerate(lengths)]
        singles = np.array([part[0] for part in alone], np.float64)
        expected = {"mean": singles.mean(), "sum": singles.sum(), "none": singles}[reduction]
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        for b, (_, part) in enumerate(alone):
            scale = 3 if reduction == "mean" else 1
            np.testing.assert_allclose(dy[: lengths[b], b] * scale, part, rtol=1e-5, atol=1e-7)


def test_ctc_without_a_path():
    y = log_softmax(np.zeros((4, 2, 3))).astype(np.float32)
    rows = [[1, 1, 1], [1, 2]]
    value, dy = tr.CTCLoss(reduction="none")(y, rows)
    assert value[0] == math.inf and np.isfinite(value[1])
    assert np.isnan(dy[:, 0]).all() and np.isfinite(dy[:, 1]).all()
    assert tr.CTCLoss()(y, rows)[0] == math.inf
    value, dy = tr.CTCLoss(zero_infinity=True, reduction="none")(y, rows)
    assert value[0] == 0 and not dy[:, 0].any() and dy[:, 1].any()
    shut = y.copy()
    shut[:, 1, 2] = -np.inf  # a label that cannot be
    assert tr.CTCLoss(reduction="none")(shut, rows)[0][1] == math.inf


def test_ctc_of_sure_and_of_long_sequences():
    """Logarithms of hundreds stay exact where probabilities would be 0."""
    y = np.full((300, 1, 4), -400.0, np.float32)
    y[:, :, 0] = 0
    value, dy = tr.CTCLoss(reduction="sum")(y, [[1, 2, 3]])
    choices = math.comb(300, 3)  # the least that three labels cost, wherever they are
    assert value == pytest.approx(1200 - math.log(choices), rel=1e-6)
    assert np.isfinite(dy).all()
    y = log_softmax(np.random.default_rng(0).normal(size=(2000, 1, 20))).astype(np.float32)
    value, dy = tr.CTCLoss(reduction="sum")(y, [np.arange(200) % 19 + 1])
    assert np.isfinite(value)
    np.testing.assert_allclose(dy.sum(axis=-1), 0, atol=1e-4)


# ---- what does not change --------------------------------------------------------------------------------


def everything():
    """The value and gradient of every loss and path, on seeded input."""
    results = []
    for name in [*DENSE, "CrossEntropyLoss"]:
        for seed in range(6):
            _, _, loss, y, target = case(seed, name)
            results.append(loss(y, target))
    y = log_softmax(np.random.default_rng(4).normal(0, 3, (30, 2, 19))).astype(np.float32)
    results.append(tr.CTCLoss()(y, [[1, 2, 2, 5, 18], [3]], [30, 17]))
    return results


@pytest.mark.skipif(not FUSED, reason="nothing is fused here")
def test_fused_instruction_sets_give_the_same_bits():
    tr.set_isa(FUSED[0])
    first = everything()
    for isa in tr.available_isas():
        tr.set_isa(isa)
        for (value, dy), (other, other_dy) in zip(first, everything(), strict=True):
            if isa in FUSED:
                assert np.array_equal(value, other, equal_nan=True) and np.array_equal(dy, other_dy)
            else:
                np.testing.assert_allclose(other, value, rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(other_dy, dy, rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_passes():
    target = np.zeros((3, 2), np.float32)
    for name in DENSE:
        for bad in (np.nan, np.inf, -np.inf):
            y = np.zeros((3, 2), np.float32)
            y[1, 1] = bad
            value, dy = getattr(tr, name)()(y, target)
            assert not np.isfinite(value) or (name == "BCEWithLogitsLoss" and bad == -np.inf)
            assert np.isfinite(dy[0]).all()
    for bad in (np.nan, np.inf):
        y = np.zeros((3, 2), np.float32)
        y[1, 1] = bad
        value, dy = tr.CrossEntropyLoss()(y, np.array([0, 0, 0]))
        assert np.isnan(value) and np.isnan(dy[1]).all() and np.isfinite(dy[[0, 2]]).all()
        value, dy = tr.CTCLoss()(np.full((3, 1, 3), bad, np.float32), [[1]])
        assert not np.isfinite(value)
    y = np.array([[0.0, -np.inf, 1.0]], np.float32)  # a class that is masked
    value, dy = tr.CrossEntropyLoss()(y, np.array([2]))
    assert value == pytest.approx(math.log1p(math.exp(-1))) and dy[0, 1] == 0


def test_all_ignored_is_nan_as_in_pytorch():
    y = np.ones((3, 4), np.float32)
    value, dy = tr.CrossEntropyLoss()(y, np.full(3, -100))
    assert math.isnan(value) and not dy.any()
    assert tr.CrossEntropyLoss(reduction="sum")(y, np.full(3, -100))[0] == 0


def test_large_logits_do_not_overflow():
    y = np.array([[1e4, -1e4]], np.float32)
    assert tr.BCEWithLogitsLoss()(y, np.array([[1.0, 0.0]]))[0] == 0
    assert tr.BCEWithLogitsLoss()(y, np.array([[0.0, 1.0]]))[0] == 1e4
    value, dy = tr.CrossEntropyLoss()(y, np.array([1]))
    assert value == 2e4 and dy.tolist() == [[1.0, -1.0]]


def test_good_targets_are_not_copied():
    loss = tr.CrossEntropyLoss()
    target = np.zeros((5, 2), np.int32)
    assert loss.target_of((5, 2, 3), target).numbers is target
    numbers = np.zeros((5, 2, 3), np.float32)
    assert tr.MSELoss().target_of((5, 2, 3), numbers).numbers is numbers
    rows = np.ones((2, 4), np.int32)
    assert tr.CTCLoss().target_of((5, 2, 3), (rows, [4, 2])).numbers is rows


def test_losses_have_the_names_of_the_core():
    from tinyrnn._training import KINDS

    assert tuple(NAMES) == KINDS
    assert tr.losses.NAMES is NAMES
    for name, loss in NAMES.items():
        assert loss().core.kind == name and issubclass(loss, Loss)
        assert repr(loss()).startswith(f"{loss.__name__}(") and "reduction='mean'" in repr(loss())


# ---- wrong input -----------------------------------------------------------------------------------------

Y = np.zeros((4, 3, 5), np.float32)
CLASSES = np.zeros((4, 3), np.int64)


def with_class(value, place=(2, 1)):
    target = CLASSES.copy()
    target[place] = value
    return target


@pytest.mark.parametrize(
    ("make", "call", "error", "message"),
    [
        (
            lambda: tr.MSELoss("avg"),
            None,
            ValueError,
            "MSELoss: reduction is 'avg', expected 'mean', 'sum' or 'none'",
        ),
        (lambda: tr.HuberLoss(delta=0), None, ValueError, "delta is 0, expected a number above 0"),
        (lambda: tr.HuberLoss(delta=-1), None, ValueError, "delta is -1"),
        (lambda: tr.HuberLoss(delta=1e300), None, ValueError, "a loss's argument is out of range"),
        (lambda: tr.CrossEntropyLoss(label_smoothing=1.5), None, ValueError, "label_smoothing is 1.5"),
        (lambda: tr.CrossEntropyLoss(ignore_index=2**40), None, ValueError, "ignore_index is"),
        (
            lambda: tr.CrossEntropyLoss(weight=1.0),
            None,
            tr.ShapeError,
            r"weight has shape \(\), expected \(C,\)",
        ),
        (lambda: tr.CrossEntropyLoss(weight=[]), None, tr.ShapeError, "weight is empty"),
        (
            lambda: tr.CrossEntropyLoss([1, np.nan]),
            None,
            ValueError,
            "weight holds nan, expected finite numbers",
        ),
        (
            lambda: tr.BCEWithLogitsLoss([1, 2], pos_weight=[1, 2, 3]),
            None,
            tr.ShapeError,
            "weight has 2 classes, but pos_weight has 3",
        ),
        (lambda: tr.CTCLoss(blank=-1), None, ValueError, "blank is -1"),
        (lambda: tr.CTCLoss(zero_infinity=2), None, TypeError, "zero_infinity is 2"),
        (
            tr.MSELoss,
            (Y, Y[:3]),
            tr.ShapeError,
            r"target has shape \(3, 3, 5\), expected \(4, 3, 5\), or \(3, 5\)",
        ),
        (tr.MSELoss, (Y[..., 0], Y), tr.ShapeError, r"y has shape \(4, 3\)"),
        (tr.MSELoss, (Y, "abc"), TypeError, "MSELoss: target: got str, expected an array of numbers"),
        (tr.MSELoss, (Y, ["abc"]), TypeError, "target: got dtype <U3, expected real numbers"),
        (tr.MSELoss, (Y[:0], Y[:0]), tr.ShapeError, r"y has shape \(0, 3, 5\), expected at least one number"),
        (
            tr.MSELoss,
            (Y, Y, [4, 4]),
            tr.ShapeError,
            r"lengths has shape \(2,\), expected \(3,\), one per row",
        ),
        (tr.MSELoss, (Y, Y, [4, 5, 1]), ValueError, r"lengths\[1\] is 5, expected 1 .. 4, the steps of y"),
        (tr.MSELoss, (Y, Y, [4, 4, 0]), ValueError, r"lengths\[2\] is 0"),
        (tr.MSELoss, (Y, Y, [4.0, 1, 1]), TypeError, "lengths: got dtype float64, expected integers"),
        (tr.MSELoss, (Y[0, 0], Y[0, 0], [1]), tr.ShapeError, "without steps and batch"),
        (tr.CrossEntropyLoss, (Y[0], CLASSES[0][:1], [1]), tr.ShapeError, "target has shape"),
        (
            tr.CrossEntropyLoss,
            (Y, with_class(5)),
            IndexError,
            r"target 5 at \[2, 1\] is out of range, expected 0 .. 4",
        ),
        (tr.CrossEntropyLoss, (Y, with_class(-1)), IndexError, r"target -1 at \[2, 1\]"),
        (tr.CrossEntropyLoss, (Y, with_class(2**40)), IndexError, "1099511627776"),
        (tr.CrossEntropyLoss, (Y, with_class(7), [2, 3, 2]), IndexError, r"target 7 at \[2, 1\]"),
        (tr.CrossEntropyLoss, (Y, np.array([0, 0, 9])), IndexError, r"target 9 at \[2\]"),
        (tr.CrossEntropyLoss, (Y, CLASSES * 1.0), TypeError, "dtype float64, expected integers, the classes"),
        (
            tr.CrossEntropyLoss,
            (Y, Y.astype(int)),
            TypeError,
            "dtype int64, expected floats, the classes' shares",
        ),
        (tr.CrossEntropyLoss, (Y, CLASSES > 0), TypeError, "dtype bool, expected integers"),
        (
            tr.CrossEntropyLoss,
            (Y, CLASSES[:2]),
            tr.ShapeError,
            r"expected \(4, 3\), or \(3,\) for each row's last",
        ),
        (lambda: tr.CrossEntropyLoss([1, 2]), (Y, CLASSES), tr.ShapeError, "but weight has 2 classes"),
        (lambda: tr.BCEWithLogitsLoss([1, 2]), (Y, Y), tr.ShapeError, "but the weights have 2 classes"),
        (
            tr.CTCLoss,
            (Y, [[1], [2], [5]]),
            IndexError,
            "label 5 of row 2 at 0 is out of range, expected 0 .. 4",
        ),
        (tr.CTCLoss, (Y, [[1], [2, 0], [3]]), IndexError, "label 0 of row 1 at 1 .* but for the blank, 0"),
        (
            tr.CTCLoss,
            (Y, [[1], [2, 3], [3]], None, [1, 1, 1]),
            tr.ShapeError,
            r"targets have \[1, 2, 1\] labels",
        ),
        (tr.CTCLoss, (Y, [[1], [2]]), tr.ShapeError, r"expected \(3, S\), a list of 3 sequences"),
        (
            tr.CTCLoss,
            (Y, [[1], [[2]], [3]]),
            tr.ShapeError,
            r"target\[1\] has shape \(1, 1\), expected one axis",
        ),
        (tr.CTCLoss, (Y, np.ones((3, 2), int), None, [2, 3, 1]), ValueError, r"target_lengths\[1\] is 3"),
        (tr.CTCLoss, (Y, np.ones((3, 2), int), None, [2, -1, 1]), ValueError, r"target_lengths\[1\] is -1"),
        (tr.CTCLoss, (Y, np.ones((3, 2), int), None, [2, 1]), tr.ShapeError, "target_lengths has shape"),
        (
            tr.CTCLoss,
            (Y, np.ones(4, int), None, [2, 1, 2]),
            tr.ShapeError,
            "4 labels, but target_lengths add up to 5",
        ),
        (tr.CTCLoss, (Y, np.ones(4, int)), tr.ShapeError, "all labels in one axis with target_lengths"),
        (tr.CTCLoss, (Y, np.ones((3, 2))), TypeError, "expected integers"),
        (tr.CTCLoss, (Y[0, 0], [1]), tr.ShapeError, r"expected \(T, B, C\) or \(T, C\)"),
        (tr.CTCLoss, (Y, [[1], [1], [1]], [4, 0, 4]), ValueError, r"lengths\[1\] is 0"),
        (lambda: tr.CTCLoss(blank=5), (Y, [[1], [1], [1]]), tr.ShapeError, "but blank is class 5"),
        (tr.CTCLoss, (Y, ([[1]] * 3, [1] * 3), None, [1] * 3), TypeError, "got target_lengths twice"),
    ],
)
def test_wrong_input_is_named(make, call, error, message):
    with pytest.raises(error, match=message):
        make()(*call)


def test_targets_beyond_the_lengths_are_not_classes():
    value, _ = tr.CrossEntropyLoss()(Y, with_class(99, (3, 1)), [4, 3, 4])
    assert value == pytest.approx(math.log(5))


# ---- recorded from PyTorch -------------------------------------------------------------------------------


def numbers(*shape, start=0):
    """Exact numbers of -3.1 .. 3.1, the same everywhere."""
    places = np.arange(start, start + math.prod(shape))
    return (((places * 37) % 101 - 50) / 16).astype(np.float32).reshape(shape)


GOLDEN_CLASSES = np.array([[0, 1], [2, -100], [4, 3]])
GOLDEN_WEIGHT = np.array([0.5, 1.0, 2.0, 0.25, 3.0], np.float32)

GOLDENS = {
    "mse": (9.95598958, 7.38854167),
    "l1 lengths": (3.14, 1.11),
    "huber sum": (43.1875, 17.75),
    "bce": (1.27387533, 0.548946511),
    "bce weights": (1.84060085, 0.580242136),
    "cross entropy": (3.53024081, 1.89770653),
    "cross entropy weights": (3.82999417, 1.86770237),
    "cross entropy last": (1.99765709, -0.841564523),
    "cross entropy shares": (8.7192717, 3.33481532),
    "ctc": (2.83351613, 0.930358154),
    "ctc sum": (12.2209713, 6.44620082),
}


def golden_case(name):
    """Loss, its arguments after y."""
    y = numbers(3, 2, 5)
    shares = np.abs(numbers(3, 2, 5, start=40)) / 4
    ends = {"lengths": [3, 2]}
    cases = {
        "mse": (tr.MSELoss(), numbers(3, 2, 5, start=7), {}),
        "l1 lengths": (tr.L1Loss(), numbers(3, 2, 5, start=7), ends),
        "huber sum": (tr.HuberLoss("sum", 0.5), numbers(3, 2, 5, start=7), {}),
        "bce": (tr.BCEWithLogitsLoss(), shares, {}),
        "bce weights": (
            tr.BCEWithLogitsLoss(GOLDEN_WEIGHT, "mean", GOLDEN_WEIGHT[::-1].copy()),
            shares,
            ends,
        ),
        "cross entropy": (tr.CrossEntropyLoss(), GOLDEN_CLASSES, {}),
        "cross entropy weights": (
            tr.CrossEntropyLoss(GOLDEN_WEIGHT, 4, "mean", 0.1),
            abs(GOLDEN_CLASSES) % 96,
            {},
        ),
        "cross entropy last": (tr.CrossEntropyLoss(), np.array([3, 1]), ends),
        "cross entropy shares": (tr.CrossEntropyLoss(GOLDEN_WEIGHT), shares, {}),
        "ctc": (tr.CTCLoss(), ([[1, 2], [4, 0]], [2, 1]), ends),
        "ctc sum": (tr.CTCLoss(4, "sum"), ([[1, 1], [3, 0]], [2, 2]), ends),
    }
    loss, target, more = cases[name]
    y = log_softmax(y.astype(np.float64)).astype(np.float32) if name.startswith("ctc") else y
    return loss, y, target, more


@pytest.mark.parametrize("name", GOLDENS)
def test_goldens(name):
    """The value, and the gradient folded with numbers that give every entry another weight."""
    loss, y, target, more = golden_case(name)
    value, dy = loss(y, target, **more)
    expected, folded = GOLDENS[name]
    assert value == pytest.approx(expected, rel=1e-6)
    assert float((dy * numbers(*dy.shape, start=3)).sum()) == pytest.approx(folded, rel=2e-5)


# ---- beside PyTorch --------------------------------------------------------------------------------------


def in_torch(name, given, y, target, mask=None):
    """Value and gradient by torch.nn's loss; classes are moved to PyTorch's axis."""
    torch = pytest.importorskip("torch")
    tensors = {key: torch.tensor(v) if isinstance(v, np.ndarray) else v for key, v in given.items()}
    output = torch.tensor(y, requires_grad=True)
    kept = output if mask is None else output[torch.tensor(mask)]
    wanted = torch.tensor(target if mask is None else target[mask])
    if name == "CrossEntropyLoss":
        kept = kept.reshape(-1, y.shape[-1])
        wanted = wanted.reshape(-1, y.shape[-1]) if wanted.is_floating_point() else wanted.reshape(-1)
    value = getattr(torch.nn, name)(**tensors)(kept, wanted)
    value.sum().backward()
    return value.detach().numpy(), output.grad.numpy()


@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
@pytest.mark.parametrize("seed", range(40))
def test_torch(seed, name):
    _, given, loss, y, target = case(seed, name)
    expected, expected_dy = in_torch(name, given, y, target)
    value, dy = loss(y, target)
    assert_close(value, dy, expected.reshape(np.shape(value)), expected_dy)


@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
@pytest.mark.parametrize("seed", range(20))
def test_torch_with_lengths(seed, name):
    generator = np.random.default_rng([seed, 9])
    shape = tuple(int(n) for n in generator.integers(2, 12, 3))
    given = options(generator, name, shape[-1])
    loss = getattr(tr, name)(**given)
    y = (2 * generator.standard_normal(shape)).astype(np.float32)
    target = target_for(generator, loss, shape)
    lengths = generator.integers(1, shape[0] + 1, shape[1])
    mask = counted(shape, lengths, False)
    expected, expected_dy = in_torch(name, given, y, target, mask)
    value, dy = loss(y, target, lengths)
    if loss.reduction == "none":
        value = value[mask].reshape(expected.shape)
    assert_close(value, dy, expected, expected_dy)


@pytest.mark.parametrize("name", [*DENSE, "CrossEntropyLoss"])
@pytest.mark.parametrize("seed", range(20))
def test_torch_with_masks(seed, name):
    generator = np.random.default_rng([seed, 10])
    shape = tuple(int(n) for n in generator.integers(2, 12, 3))
    given = options(generator, name, shape[-1])
    loss = getattr(tr, name)(**given)
    y = (2 * generator.standard_normal(shape)).astype(np.float32)
    target = target_for(generator, loss, shape)
    mask = generator.random(shape[:2]) < 0.5
    mask[0, 0] = True
    expected, expected_dy = in_torch(name, given, y, target, mask)
    value, dy = loss(y, target, mask=mask)
    if loss.reduction == "none":
        value = value[mask].reshape(expected.shape)
    assert_close(value, dy, expected, expected_dy)


@pytest.mark.parametrize("seed", range(60))
def test_torch_ctc(seed):
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng([seed, 10])
    steps, batch, classes = (int(n) for n in generator.integers((2, 1, 2), (40, 6, 20)))
    blank = int(generator.integers(classes))
    given = {
        "blank": blank,
        "reduction": str(generator.choice(["mean", "sum", "none"])),
        "zero_infinity": bool(generator.integers(2)),
    }
    lengths = generator.integers(1, steps + 1, batch)
    counts = generator.integers(0, 1 + steps // 2, batch)
    if not given["zero_infinity"]:
        counts = np.minimum(counts, lengths // 2)
    labels = generator.integers(0, classes - 1, (batch, max(1, counts.max())))
    labels += labels >= blank
    y = log_softmax(generator.normal(0, 2, (steps, batch, classes))).astype(np.float32)
    output = torch.tensor(y, dtype=torch.float64, requires_grad=True)  # float has errors of its own
    expected = torch.nn.CTCLoss(**given)(output, *map(torch.tensor, (labels, lengths, counts)))
    expected.sum().backward()
    value, dy = tr.CTCLoss(**given)(y, labels, lengths, counts)
    expected, expected_dy = expected.detach().numpy(), output.grad.numpy()
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(value), finite)
    if np.all(finite):
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6 if np.ndim(value) else 0)
        np.testing.assert_allclose(dy, expected_dy, rtol=0, atol=1e-5 * abs(expected_dy).max() + 1e-12)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", ">i8"])
def test_classes_of_any_integers(dtype):
    y, target = np.random.default_rng(0).standard_normal((6, 4), np.float32), np.array([0, 3, 1, 2, 3, 0])
    loss = tr.CrossEntropyLoss()
    value, dy = loss(y, target.astype(dtype))
    assert (value, dy.tolist()) == (loss(y, target.tolist())[0], loss(y, target[::-1][::-1])[1].tolist())


@pytest.mark.parametrize("wrong", [4, -1, 2**31, 2**32 + 1, -(2**63)])
def test_a_class_that_int32_has_not(wrong):
    target = np.array([0, 3, wrong, 2])
    with pytest.raises(IndexError, match=rf"{wrong}.* at \[2\]"):
        tr.CrossEntropyLoss()(np.zeros((4, 4), np.float32), target)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_copies(copied) -> None:
    y, target = np.random.default_rng(0).standard_normal((6, 4), np.float32), np.array([0, 3, 1, 2, 3, 0])
    for loss in (
        tr.CrossEntropyLoss([1.0, 2.0, 0.5, 1.5], ignore_index=3, label_smoothing=0.1),
        tr.CrossEntropyLoss(reduction="sum"),
    ):
        again = copied(loss)
        assert repr(again) == repr(loss)
        assert again(y, target)[0] == loss(y, target)[0]
    for loss in (tr.MSELoss("sum"), tr.L1Loss(), tr.HuberLoss("mean", 0.5), tr.CTCLoss(1, "sum", True)):
        assert repr(copied(loss)) == repr(loss)
    weighted = tr.BCEWithLogitsLoss(0.5, pos_weight=[1.0, 2.0])
    assert repr(copied(weighted)) == repr(weighted)
