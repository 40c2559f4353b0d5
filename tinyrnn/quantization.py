"""Nets with smaller weights: float16, bfloat16, int8 and int4."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyrnn import _core
from tinyrnn.arguments import explained
from tinyrnn.contract import Module
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
from tinyrnn.loading import build
from tinyrnn.net import Net
from tinyrnn.progress import watched
from tinyrnn.state_dicts import stored
from tinyrnn.tracing import watch

# Damping of the moments' diagonal, as a part of its mean, so that the inverse stays bounded.
_DAMPING = 0.01

Matrix = NDArray[np.float64]


@explained
def quantize(
    net: Net,
    format: str,
    calibration: ArrayLike | Mapping[str, ArrayLike] | list[Any] | None = None,
    keep: str | Iterable[str] = (),
    *,
    bound: float | None = None,
    loss: Callable[[Net], float] | None = None,
) -> Net:
    """A copy of a net with its matrices in a smaller format.

    Recurrent layers, Linear, convolutions and Embedding have matrices; biases and all else stay float32. With
    ``"int8"`` every row of a matrix has a scale, with ``"int4"`` every 32 numbers of a row. A product then
    rounds its input too, row by row, to 255 levels. ``"float16"`` and ``"bfloat16"`` take half the memory of
    float32; the computation is in float32.

    The copy runs, streams, saves and loads as any net. `Net.formats` lists the format of each layer,
    `Net.memory` gives the size, `drift` measures the error.

    Parameters
    ----------
    net : Net
        It stays as it is. The copy keeps matrices that already have another format than float32, so a second
        call can give another format to the layers that ``keep`` left out of the first.
    format : {"int8", "int4", "float16", "bfloat16"}
    calibration : array_like, mapping from name to array, or list of either, optional
        Typical input, as ``net(x)`` takes it (a cell as ``net.stream().run(x)`` does), or a list of such. A
        mapping for a net of several inputs; a net with a loop takes none.
        With it int8 and int4 are rounded for the least error of each matrix's output while ``net`` runs
        (GPTQ: Frantar et al., 2022), not for the least error of each weight. The rounding goes layer by
        layer, so each layer also makes up for the errors of those before it. int4 gains much, int8 a little.
        Some ten thousand steps are enough. float16 and bfloat16 are rounded to the nearest in any case.
    keep : iterable of str, or "auto"
        Names of layers that stay float32, as `Net.formats` lists them: the name of a layer in a `Sequential`,
        which stands for all within it, or of a level, ``"lstm.l0"``. ``"auto"`` keeps as many of the worst
        layers as ``bound`` needs; the worst layer is the one that does most harm when it is quantised alone.
        That quantises the net up to twice as often as it has layers.
    bound : float, optional
        With ``keep="auto"``: the largest magnitude by which any number of the output over the calibration may
        differ from the float32 net's. With ``loss``: the amount by which the loss may exceed the float32
        net's.
    loss : callable, optional
        A measure for ``bound`` instead: a function from a net to a float, the smaller the better.

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
        kind = type(net).__name__
        raise ValueError(f"quantize: got a {kind} that {what}, expected a float32 matrix to quantise")
    sequences = _sequences(calibration)
    auto = isinstance(keep, str) and keep == "auto"
    if not auto:
        kept |= _named(net, [keep] if isinstance(keep, str) else keep)
    cores = {id(_core_of(net, name)) for name in kept}
    kept |= {name for name in net.formats if id(_core_of(net, name)) in cores}  # layers that are used twice
    if auto != (bound is not None) or (loss is not None and not auto):
        raise ValueError('quantize: keep="auto" needs bound=, and only it takes bound= and loss=')
    if auto and loss is None and not sequences:
        raise ValueError('quantize: keep="auto" needs calibration= or loss= to hold the bound against')

    def shrunk(kept: set[str]) -> Net:
        smaller = _rounded(net, format, kept)
        if sequences and format in LEVELS:
            _calibrate(smaller, net, format, sequences, kept)
        return smaller

    if bound is None:
        return shrunk(kept)
    return _bounded(net, shrunk, kept, bound, loss or _worst_difference(net, sequences))


def _sequences(calibration: Any) -> list[Any]:
    """The calibration as a list of inputs."""
    if calibration is None:
        return []
    if isinstance(calibration, (list, tuple)) and any(
        hasattr(part, "shape") or isinstance(part, Mapping) for part in calibration
    ):
        return list(calibration)
    return [calibration]


def _named(net: Net, names: Iterable[str]) -> set[str]:
    """The core layers that have one of the names, or that are inside a layer with one of the names."""
    found: set[str] = set()
    for name in names:
        within = {place for place in net.formats if f"{place}.".startswith(f"{name}.")}
        if not within:
            raise ValueError(f"quantize: keep has {name!r}, expected names among {', '.join(net.formats)}")
        found |= within
    return found


def _rounded(net: Net, format: str, kept: set[str]) -> Net:
    """A copy of the net with all but some layers rounded to the nearest that a format has."""
    copy = build(net._describe())
    for (prefix, leaf), (_, source) in zip(copy._leaves(), net._leaves(), strict=True):
        formats = []
        for level, core in enumerate(source._cores()):
            stays = leaf._path(prefix, level) in kept or not core.matrices
            formats.append(core.format if stays else format)
            for tensor in () if stays else (t for t in source._tensors() if t.core is core):
                if tensor.param in core.matrices:
                    check_finite(tensor.numbers(), format, f"quantize: {prefix}{tensor.name}")
        leaf._reformat(formats)
    copy.load_state_dict(stored(net))
    return copy


# ---- layers that stay float32 -------------------------------------------------------------------


def _bounded(
    net: Net, shrunk: Callable[[set[str]], Net], before: set[str], bound: float, loss: Callable[[Net], float]
) -> Net:
    """Keep the fewest of the worst layers so that the loss grows at most by ``bound``.

    Returns the shrunk net. The layers of ``before`` are kept in any case.
    """
    names = [name for name in net.formats if name not in before]
    base = loss(net)

    def harm(kept: set[str]) -> tuple[float, Net]:
        smaller = shrunk(kept)
        grown = float(loss(smaller) - base)
        return math.inf if math.isnan(grown) else grown, smaller

    grown, smaller = harm(before)
    if grown <= bound:
        return smaller
    alone = {name: harm({*net.formats} - {name})[0] for name in watched(names)}
    *worst, mildest = sorted(names, key=lambda name: -alone[name])
    kept = before
    for name in watched(worst):
        kept = kept | {name}
        grown, smaller = harm(kept)
        if grown <= bound:
            return smaller
    raise ValueError(
        f"quantize: bound is {bound}, but quantising only {mildest}, the mildest layer, costs "
        f"{alone[mildest]:.3g}"
    )


def _worst_difference(net: Net, sequences: list[Any]) -> Callable[[Net], float]:
    wanted = [_outputs(net, x) for x in sequences]

    def worst(other: Net) -> float:
        differences = [
            np.abs(found - y).max()
            for x, right in zip(sequences, wanted, strict=True)
            for found, y in zip(_outputs(other, x), right, strict=True)
        ]
        return float(np.max(differences))

    return worst


def _outputs(net: Net, x: Any) -> list[NDArray[np.float32]]:
    """A net's outputs, without its final state."""
    if isinstance(x, Mapping) or not net._recurrent or net._is_wired:
        found = net(x)
        if isinstance(found, Mapping):
            return list(found.values())
        return list(found) if isinstance(found, tuple) else [found]
    return [net._run(x, None, None, 1)[0]]


# ---- rounding by the inputs of the matrices -----------------------------------------------------


def _calibrate(rounded: Net, net: Net, format: str, sequences: list[Any], kept: set[str]) -> None:
    """Round the matrices of some layers again, layer by layer, for their inputs while the net runs.

    Each layer makes up for the remaining errors of those before it: from its input after the rounded layers
    it should compute the output that it computed from its input in ``net``.
    """
    order = [name for name in net.formats if name not in kept]
    done: set[int] = set()
    for name in watched(order):
        core = _core_of(net, name)
        if id(core) in done:  # a layer that is used twice
            continue
        done.add(id(core))
        later = {other for other in order if id(_core_of(net, other)) not in done - {id(core)}}
        core, source = _core_of(rounded, name), _core_of(net, name)
        if core.kind == "embedding":  # multiplies nothing
            continue
        before = _mixed(net, rounded, kept | later)
        for param, sums in _moments(net, before, name, sequences).items():
            codes, scales = core.codes(param)
            assert scales is not None  # the format is one of integers
            matrix = source.get(param).reshape(len(codes), -1).astype(np.float64)
            flat = codes.reshape(matrix.shape)  # a view: writing to it writes to the codes
            for rows, moment, cross in sums:
                if not np.isfinite(moment).all() or not np.isfinite(cross).all():
                    raise ValueError(
                        f"quantize: calibration: the input of {name} is not finite, expected finite numbers"
                    )
                if moment.any():
                    _improve(matrix[rows], moment, cross, format, flat[rows], scales[rows])
            core.set_codes(param, codes, scales)


def _mixed(net: Net, rounded: Net, kept: set[str]) -> Net:
    """The rounded net with some layers as they are in ``net``."""
    copy = build(rounded._describe())
    for (prefix, leaf), (_, source) in zip(copy._leaves(), net._leaves(), strict=True):
        pairs = enumerate(zip(source._cores(), leaf._cores(), strict=True))
        leaf._reformat([(old if leaf._path(prefix, i) in kept else new).format for i, (old, new) in pairs])
    numbers = stored(net)
    for tensor, new in zip(copy._tensors(), rounded._tensors(), strict=True):
        if tensor.format == new.format:
            numbers |= new.stored()
    copy.load_state_dict(numbers)
    return copy


def _core_of(net: Net, name: str) -> _core.Layer:
    """The core layer that the net calls so."""
    return next(leaf._cores()[level] for place, leaf, level in net._places() if place == name)


def _core_at(leaf: Module, level: int) -> _core.Layer | None:
    """A layer's core layer that has tensors; None if it has none."""
    cores = leaf._cores()
    return cores[level] if level < len(cores) else None


def _moments(
    net: Net, other: Net, name: str, sequences: list[Any]
) -> dict[int, list[tuple[slice, Matrix, Matrix]]]:
    """Sum ``y yᵀ`` and ``x yᵀ`` for each matrix of a layer, for its rows or some of them.

    x is what the layer reads in the net, y what it reads in the other.
    """
    moments: dict[int, list[tuple[slice, Matrix, Matrix]]] = {}
    core = _core_of(net, name)
    last = [place for place, leaf, level in net._places() if _core_at(leaf, level) is core][-1]
    for sequence in watched(sequences):
        pairs = (
            (one, two)
            for ones, twos in zip(watch(net, sequence, last), watch(other, sequence, last), strict=True)
            for one, two in zip(ones, twos, strict=True)
            if one.core is core
        )
        for one, two in pairs:
            xs, ys = one.reads(), two.reads()
            for param in xs:
                sums = moments.setdefault(
                    param, [(rows, *np.zeros((2, x.shape[1], x.shape[1]))) for rows, x in xs[param]]
                )
                for (_, moment, cross), (_, x), (_, y) in zip(sums, xs[param], ys[param], strict=True):
                    wide = y.astype(np.float64)
                    with np.errstate(all="ignore"):  # the caller reports numbers that are not finite
                        moment += wide.T @ wide
                        cross += x.astype(np.float64).T @ wide
    return moments


def _improve(
    matrix: Matrix,
    moment: Matrix,
    cross: Matrix,
    format: str,
    codes: NDArray[np.int8],
    scales: NDArray[np.float32],
) -> None:
    """Replace the nearest codes and scales of those rows to which error feedback does good.

    The codes q of each row w should give the least sum of ``(w x - q y)²``. Without rounding they would be
    ``w cross moment⁻¹``. Column by column, the error of rounding one is spread over the columns to come.

    Parameters
    ----------
    matrix : (rows, columns)
    moment, cross : (columns, columns)
        Sums of ``y yᵀ`` and ``x yᵀ``.
    codes, scales
        The nearest; written to.
    """
    columns = len(moment)
    importance = np.diag(moment)
    damping = np.eye(columns) * (_DAMPING * importance.mean())
    inverse = np.linalg.inv(moment + damping)
    left = matrix @ (cross + damping) @ inverse
    spread = np.linalg.cholesky(inverse).T  # upper: row j says how to make up for column j
    new_codes = np.empty_like(codes)
    new_scales = row_scales(left) if format == "int8" else np.empty_like(scales)
    for start in range(0, columns, GROUP):
        stop = min(start + GROUP, columns)
        if format == "int8":
            scale = new_scales
        else:
            scale = new_scales[:, start // GROUP] = group_scales(left[:, start:stop], importance[start:stop])
        errors = np.empty((len(matrix), stop - start))
        for j in range(start, stop):
            new_codes[:, j] = nearest(left[:, j], scale, format)
            error = errors[:, j - start] = (left[:, j] - new_codes[:, j] * scale) / spread[j, j]
            left[:, j:stop] -= np.outer(error, spread[j, j:stop])
        left[:, stop:] -= errors @ spread[start:stop, stop:]

    def harm(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> Matrix:
        """The sum of squares of each row, without the term that all codes share."""
        wide = scales[:, np.newaxis] if format == "int8" else np.repeat(scales, GROUP, axis=1)[:, :columns]
        q = codes * wide.astype(np.float64)
        squares: Matrix = ((q @ moment - 2 * matrix @ cross) * q).sum(axis=1)
        return squares

    better = harm(new_codes, new_scales) < harm(codes, scales)
    codes[better] = new_codes[better]
    scales[better] = new_scales[better]
