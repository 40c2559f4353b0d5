"""Nets with smaller weights: float16, bfloat16, int8 and int4."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn.formats import (
    GROUP,
    LEVELS,
    SMALLER,
    check_finite,
    check_format,
    group_scales,
    nearest,
    row_scales,
)
from tinyrnn.model import Net, _build
from tinyrnn.trace import watch

# Added to the diagonal of what a matrix reads, as a part of its mean: what keeps the inverse tame.
_DAMPING = 0.01

Matrix = NDArray[np.float64]


def quantize(
    net: Net,
    format: str,
    calibration: ArrayLike | list[ArrayLike] | None = None,
    keep: str | Iterable[str] = (),
    *,
    bound: float | None = None,
    loss: Callable[[Net], float] | None = None,
) -> Net:
    """A copy of a net with its matrices in a smaller format.

    Recurrent layers, Linear, Conv1d and Embedding have matrices; biases and all else stay float32. With
    ``"int8"`` every row of a matrix has a scale, with ``"int4"`` every 32 numbers of a row; what a product
    reads is then rounded too, row by row as it comes, to 255 levels. ``"float16"`` and ``"bfloat16"`` take
    half the memory of float32 and are computed with in float32.

    The copy runs, streams, saves and loads as any net; `Net.formats` tells what became of each layer,
    `Net.memory` how large it is, `drift` how far it strays.

    Parameters
    ----------
    net : Net
        It stays as it is. What it has in another format than float32 already, the copy has too: a second call
        may quantise otherwise what ``keep`` left in a first one.
    format : {"int8", "int4", "float16", "bfloat16"}
    calibration : array_like, or list of ndarray, optional
        Typical input, as ``net(x)`` takes it (a cell as ``net.stream().run(x)`` does), or a list of such.
        With it int8 and int4 are rounded for the least error of what each matrix makes of what it reads while
        ``net`` runs (GPTQ: Frantar et al., 2022), not for the least error of each weight. Some thousand steps
        do. The halves are rounded to the nearest in any case.
    keep : iterable of str, or "auto"
        Names of layers that stay float32, as `Net.formats` lists them: a layer's of a `Sequential`, which
        stands for all within it, or a level's, ``"lstm.l0"``. With ``"auto"`` as many of the worst layers as
        it takes to hold ``bound``; the worst is the one that does most harm when it is quantised alone.
    bound : float, optional
        With ``keep="auto"``: the largest magnitude by which any number of the output over the calibration may
        differ from the float32 net's. With ``loss`` how much larger that may be than the float32 net's.
    loss : callable, optional
        What ``bound`` is about instead: takes a net, returns a float, the smaller the better.

    Returns
    -------
    Net

    Raises
    ------
    ValueError
        If nothing is float32 to begin with, a name in ``keep`` is unknown, or ``bound`` holds only if nothing
        is quantised.
    WeightsError
        If a weight is not finite or beyond the format's range: the message names the tensor.
    ShapeError, TypeError, IndexError
        If the calibration does not fit the net.
    """
    if not isinstance(net, Net):
        raise TypeError(f"quantize: got {type(net).__name__}, expected a net")
    if check_format("quantize: format", format) not in SMALLER:
        raise ValueError(f"quantize: format is {format!r}, expected one of {', '.join(map(repr, SMALLER))}")
    kept = {name for name, now in net.formats.items() if now != "float32"}
    if len(kept) == len(net.formats):
        now = ", ".join(dict.fromkeys(net.formats.values()))
        what = f"is {now} already" if now else "has no matrices"
        raise ValueError(f"quantize: the {type(net).__name__} {what}: there is nothing to quantise")
    sequences = _sequences(calibration)
    auto = isinstance(keep, str) and keep == "auto"
    if not auto:
        kept |= _named(net, [keep] if isinstance(keep, str) else keep)
    if auto != (bound is not None) or (loss is not None and not auto):
        raise ValueError('quantize: keep="auto" needs bound=, and only it takes bound= and loss=')
    if auto and loss is None and not sequences:
        raise ValueError('quantize: keep="auto" needs calibration= or loss= to hold the bound against')

    rounded = _rounded(net, format, kept)
    if sequences and format in LEVELS:
        _calibrate(rounded, net, format, sequences, set(net.formats) - kept)
    if bound is None:
        return rounded
    return _bounded(net, rounded, kept, bound, loss or _worst_difference(net, sequences))


def _sequences(calibration: Any) -> list[Any]:
    """The calibration as a list of inputs."""
    if calibration is None:
        return []
    if isinstance(calibration, (list, tuple)) and any(hasattr(part, "shape") for part in calibration):
        return list(calibration)
    return [calibration]


def _named(net: Net, names: Iterable[str]) -> set[str]:
    """The core layers that are called so, or stand within what is called so."""
    found: set[str] = set()
    for name in names:
        within = {place for place in net.formats if f"{place}.".startswith(f"{name}.")}
        if not within:
            raise ValueError(f"quantize: keep has {name!r}, expected some of {', '.join(net.formats)}")
        found |= within
    return found


def _rounded(net: Net, format: str, kept: set[str]) -> Net:
    """A copy of the net with all but some layers rounded to the nearest that a format has."""
    copy = _build(net._describe())
    for (prefix, leaf), (_, source) in zip(copy._leaves(), net._leaves(), strict=True):
        formats = []
        for level, core in enumerate(source._cores()):
            stays = leaf._path(prefix, level) in kept or not core.matrices
            formats.append(core.format if stays else format)
            for tensor in () if stays else (t for t in source._tensors() if t.core is core):
                if tensor.param in core.matrices:
                    check_finite(tensor.numbers(), format, f"quantize: {prefix}{tensor.name}")
        leaf._reformat(formats)
    copy.load_state_dict(net._stored())
    return copy


# ---- layers that stay float32 -------------------------------------------------------------------


def _bounded(net: Net, rounded: Net, before: set[str], bound: float, loss: Callable[[Net], float]) -> Net:
    """The rounded net with the fewest of its worst layers as they are in ``net`` by which the loss grows at
    most by ``bound``. Those of ``before`` are so in any case."""
    names = [name for name in net.formats if name not in before]
    base = loss(net)

    def harm(kept: set[str]) -> tuple[float, Net]:
        copy = _mixed(net, rounded, kept)
        grown = float(loss(copy) - base)
        return math.inf if math.isnan(grown) else grown, copy

    grown, copy = harm(before)
    if grown <= bound:
        return copy
    alone = {name: harm({*net.formats} - {name})[0] for name in names}
    *worst, mildest = sorted(names, key=lambda name: -alone[name])
    kept = before
    for name in worst:
        kept = kept | {name}
        grown, copy = harm(kept)
        if grown <= bound:
            return copy
    raise ValueError(
        f"quantize: bound is {bound}, but quantising only {mildest}, the mildest layer, costs "
        f"{alone[mildest]:.3g}"
    )


def _mixed(net: Net, rounded: Net, kept: set[str]) -> Net:
    """The rounded net with some layers as they are in ``net``."""
    copy = _build(rounded._describe())
    for (prefix, leaf), (_, source) in zip(copy._leaves(), net._leaves(), strict=True):
        pairs = enumerate(zip(source._cores(), leaf._cores(), strict=True))
        leaf._reformat([(old if leaf._path(prefix, i) in kept else new).format for i, (old, new) in pairs])
    stored = net._stored()
    for tensor, new in zip(copy._tensors(), rounded._tensors(), strict=True):
        if tensor.format == new.format:
            stored |= new.stored()
    copy.load_state_dict(stored)
    return copy


def _worst_difference(net: Net, sequences: list[Any]) -> Callable[[Net], float]:
    wanted = [_output(net, x) for x in sequences]

    def worst(other: Net) -> float:
        differences = (np.abs(_output(other, x) - y).max() for x, y in zip(sequences, wanted, strict=True))
        return float(np.max(list(differences)))

    return worst


def _output(net: Net, x: Any) -> NDArray[np.float32]:
    """A net's output sequence, without its final state."""
    output: NDArray[np.float32] = net._run(x, None, None, 1)[0] if net._recurrent else net(x)
    return output


# ---- rounding by what the matrices read ---------------------------------------------------------


def _calibrate(rounded: Net, net: Net, format: str, sequences: list[Any], names: set[str]) -> None:
    """Round the matrices of some layers again, by what they read while ``net`` runs."""
    moments: dict[tuple[str, int], list[tuple[slice, Matrix]]] = {}  # sums of x xᵀ, for rows of each matrix
    for x in sequences:
        for seen in (seen for chunk in watch(net, x) for seen in chunk if seen.name in names):
            for param, reads in seen.reads().items():
                sums = moments.setdefault(
                    (seen.name, param), [(rows, np.zeros((part.shape[1],) * 2)) for rows, part in reads]
                )
                for (_, total), (_, part) in zip(sums, reads, strict=True):
                    wide = part.astype(np.float64)
                    with np.errstate(all="ignore"):
                        total += wide.T @ wide
    pairs = zip(rounded._places(), net._places(), strict=True)
    cores = {
        name: (leaf._cores()[level], source._cores()[level])
        for (name, leaf, level), (_, source, _) in pairs
        if name in names
    }
    for (name, param), sums in moments.items():
        core, source = cores[name]
        codes, scales = core.codes(param)
        assert scales is not None  # the format is one of integers
        matrix = source.get(param).reshape(len(codes), -1).astype(np.float64)
        flat = codes.reshape(matrix.shape)  # a view: what is written here is written there
        for rows, moment in sums:
            if not np.isfinite(moment).all():
                raise ValueError(f"quantize: calibration: {name} reads numbers that are not finite")
            if moment.any():
                _improve(matrix[rows], moment, format, flat[rows], scales[rows])
        core.set_codes(param, codes, scales)


def _improve(
    matrix: Matrix, moment: Matrix, format: str, codes: NDArray[np.int8], scales: NDArray[np.float32]
) -> None:
    """Replace the nearest codes and scales of those rows to which error feedback does good.

    Column by column, the error of rounding one is spread over the columns to come, so that the sum of
    squared errors of the products, ``e moment eᵀ`` of each row, grows least.

    Parameters
    ----------
    matrix : (rows, columns)
    moment : (columns, columns)
        Sum of x xᵀ over what the matrix reads.
    codes, scales
        The nearest; written to.
    """
    columns = len(moment)
    importance = np.diag(moment)
    damped = moment + np.eye(columns) * (_DAMPING * importance.mean())
    spread = np.linalg.cholesky(np.linalg.inv(damped)).T  # upper: row j says how to make up for column j
    left = matrix.copy()
    new_codes = np.empty_like(codes)
    new_scales = scales.copy()
    if format == "int8":
        new_scales[:] = row_scales(matrix)
    for start in range(0, columns, GROUP):
        stop = min(start + GROUP, columns)
        if format == "int4":
            scale = new_scales[:, start // GROUP] = group_scales(left[:, start:stop], importance[start:stop])
        else:
            scale = new_scales
        errors = np.empty((len(matrix), stop - start))
        for j in range(start, stop):
            new_codes[:, j] = nearest(left[:, j], scale, format)
            error = errors[:, j - start] = (left[:, j] - new_codes[:, j] * scale) / spread[j, j]
            left[:, j:stop] -= np.outer(error, spread[j, j:stop])
        left[:, stop:] -= errors @ spread[start:stop, stop:]

    def harm(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> Matrix:
        wide = scales[:, np.newaxis] if format == "int8" else np.repeat(scales, GROUP, axis=1)[:, :columns]
        error = matrix - codes * wide
        squares: Matrix = ((error @ moment) * error).sum(axis=1)
        return squares

    better = harm(new_codes, new_scales) < harm(codes, scales)
    codes[better] = new_codes[better]
    scales[better] = new_scales[better]
