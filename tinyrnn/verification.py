"""verify: a net beside the model that it was made from, step by step."""

from __future__ import annotations

import os
from collections.abc import Callable, Set
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn import proofs
from tinyrnn.arguments import check_float, check_size
from tinyrnn.errors import LoadError, ShapeError
from tinyrnn.loading import load
from tinyrnn.net import Net
from tinyrnn.progress import watched
from tinyrnn.runners import Arrays, Places, built, is_onnx, is_scripted, runner
from tinyrnn.weights import opened


class Check(NamedTuple):
    """One output of one input.

    Attributes
    ----------
    case : str
        The input: "random", "zeros", "large", "denormal", "silence", "yours" or "proof".
    output : str
    error : float
        The largest difference, as a part of the number where that is above 1; infinite if only one is finite.
    step : int, optional
        The first step whose error is above the tolerance; 0 for a value per sequence. None if none is.
    same_bits : bool
    """

    case: str
    output: str
    error: float
    step: int | None
    same_bits: bool


class Verification(NamedTuple):
    """The result of `verify`. It is true if no error is above the tolerance; `str` is a table.

    Attributes
    ----------
    checks : tuple of Check
    tolerance : float
    against : str
    seconds, seconds_against : float
        The least time that the net and the other model took for one of the inputs; 0 for a proof.
    note : str
        Why the difference, if there is one, is expected: one of the two rounds activations.
    """

    checks: tuple[Check, ...]
    tolerance: float
    against: str
    seconds: float = 0.0
    seconds_against: float = 0.0
    note: str = ""

    def __bool__(self) -> bool:
        return all(check.step is None for check in self.checks)

    def __str__(self) -> str:
        worst = max(self.checks, key=lambda check: check.error)
        verdict = "agrees with" if self else "DIFFERS from"
        lines = [f"{verdict} {self.against}: largest error {worst.error:.2g}, tolerance {self.tolerance:.2g}"]
        for check in self.checks:
            end = "within" if check.step is None else f"beyond it from step {check.step} on"
            bits = ", the same bits" if check.same_bits else ""
            lines.append(f"  {check.case:9} {check.output:8} {check.error:9.2g}  {end}{bits}")
        if self.seconds:
            both = f"{self.seconds * 1e3:.3g} ms here, {self.seconds_against * 1e3:.3g} ms there"
            lines.append(f"  one input took {both}, at least")
        if self.note and not self:
            lines.append(f"  {self.note}")
        return "\n".join(lines)


def verify(
    net: Net | str | os.PathLike[str],
    against: Any = None,
    inputs: Any = None,
    steps: int = 1000,
    tol: float = proofs.TOLERANCE,
    **bound: Any,
) -> Verification:
    """Run a net and another model on the same inputs, and compare every output at every step.

    The inputs are random; zeros; large, with a deviation of 100; denormal; and random with a silent half.
    They have one row. Differences of numbers above 1 count as parts of these.

    Parameters
    ----------
    net : Net, str or os.PathLike
        A net, or its file.
    against : torch.nn.Module, keras.Model, Net, str or os.PathLike, optional
        A module takes the same arrays as the net, and returns its outputs first. A model of Keras takes them
        as (1, steps, frame), of as many steps as it is for; steps that it masks are beyond the end for
        the net, or in no input. An .onnx file runs in ONNX Runtime, in one
        thread, step by step where it describes one step; inputs of it beyond the net's are states, which
        begin with zeros. A .keras, .h5 or .hdf5 file runs in Keras, one of TorchScript in PyTorch. Any other
        file is a net's. None: the proof in the net's own file, as `Net.save` wrote it.
    inputs : array_like, or a tuple or list of one for each input, optional
        An input of your own, besides the others.
    steps : int
        Of each sequence.
    tol : float
        The tolerance. A proof has its own.
    **bound
        Numbers of inputs of a file of ONNX or TorchScript, by name, that the net has as constants:
        ``sr=16000``.

    Returns
    -------
    Verification

    Raises
    ------
    ImportError
        If onnxruntime or keras is needed and missing.
    LoadError
        If a file cannot be read, or has no proof.
    ShapeError, TypeError, ValueError
        If the models do not fit the inputs.
    """
    steps = check_size("verify: steps", steps)
    tol = check_float("verify: tol", tol, 0.0)
    places: Places | None = None
    if isinstance(net, Net):
        own = net
    elif is_onnx(net):
        own, places = built(net, bound)
        if not isinstance(against, (str, os.PathLike)) or os.fspath(against) != os.fspath(net):
            places = None
    else:
        own = load(net, **(bound if is_scripted(net) else {}))
    if against is None:
        if isinstance(net, Net):
            raise TypeError("verify: got a net alone, expected against= a model, or the file of a net")
        return _repeated(own, os.fspath(net))
    run, name, fixed, masks, truths = runner(against, own, bound, places)
    steps = fixed or steps
    cases: list[tuple[str, list[NDArray[Any]]]] = []
    if inputs is not None:
        cases.append(("yours", proofs.arrays_of(inputs)))
    if all(frame is not None for frame, _ in own._ports_known().values()):
        drawn = _cases(own, steps, truths)
        cases += _unmasked(drawn) if masks else drawn
    elif not cases:
        raise ShapeError("verify: got a net whose frame is open, expected inputs= of your own")
    checks: list[Check] = []
    times = []
    for case, arrays in watched(cases):
        begun = perf_counter()
        ours = proofs.outputs_of(own, arrays)
        between = perf_counter()
        theirs = run(arrays)
        times.append((between - begun, perf_counter() - between))
        found = _compared(case, ours, theirs, tol, own)
        if masks and case == "silence" and any(check.step is not None for check in found):
            end = steps // 2  # behind it Keras writes the last step again
            ours = proofs.outputs_of(own, [one[:end] for one in arrays])
            theirs = {key: y[:, :end] if y.shape[1:2] == (steps,) else y for key, y in theirs.items()}
            found = _compared(case, ours, theirs, tol, own)
        checks += found
    here, there = (min(one) for one in zip(*times, strict=True))
    note = "" if all(check.step is None for check in checks) else _note(own, against)
    return Verification(tuple(checks), tol, name, here, there, note)


def _note(own: Net, against: Any) -> str:
    """Why the results of a net and of another model may differ by more than the last bits."""
    if isinstance(against, (str, os.PathLike)) and is_onnx(against):
        with opened(against) as file:
            count = dict(file.info.unread).get("rounding of activations", "").partition(",")[0]
        if count:
            return f"a difference is expected: the file rounds activations ({count}), this net in other ways"
    kinds = ", ".join(sorted(set(own.formats.values()) - {"float32"}))
    return f"a difference is expected: layers in {kinds} round weights or what they read" if kinds else ""


def _cases(net: Net, steps: int, truths: Set[str]) -> list[tuple[str, list[NDArray[Any]]]]:
    """The inputs that every net is compared on; those of `truths` are 0 and 1."""
    random = [
        (one > 0).astype(int) if name in truths else one
        for name, one in zip(net._ports_known(), proofs.random_inputs(net, steps), strict=True)
    ]

    def each(change: Callable[[NDArray[Any]], NDArray[Any]]) -> list[NDArray[Any]]:
        return [one if one.dtype.kind in "iu" else change(one).astype(np.float32) for one in random]

    def silenced(one: NDArray[Any]) -> NDArray[Any]:
        found = one.copy()
        found[(slice(None), slice(steps // 2, None)) if net._batch_first else slice(steps // 2, None)] = 0
        return found

    cases = [("random", random)]
    if any(one.dtype.kind == "f" for one in random):
        cases += [
            ("zeros", each(np.zeros_like)),
            ("large", each(lambda one: one * 100)),
            ("denormal", each(lambda one: one * np.float32(1e-40))),
            ("silence", each(silenced)),
        ]
    return cases


def _unmasked(cases: list[tuple[str, list[NDArray[Any]]]]) -> list[tuple[str, list[NDArray[Any]]]]:
    """The inputs without steps of zeros or of index 0, but a silence at the end of a single sequence."""
    single = len(cases[0][1]) == 1
    return [
        (case, [np.maximum(one, 1) if one.dtype.kind in "iu" else one for one in arrays])
        for case, arrays in cases
        if case != "zeros" and (single or case != "silence")
    ]


def _repeated(net: Net, path: str) -> Verification:
    """The proof of a file, run again."""
    from tinyrnn.weights.safetensors import read_metadata

    text = read_metadata(path).get(proofs.KEY)
    if text is None:
        raise LoadError(
            f"{path}: got a file without a proof, expected one of net.save(path, proof=True), or a "
            "model to compare with, --against or against="
        )
    inputs, outputs, tolerance = proofs.read(text, path)
    checks = _compared("proof", proofs.outputs_of(net, inputs), outputs, tolerance, net)
    return Verification(tuple(checks), tolerance, "the proof in the file")


def _compared(case: str, got: Arrays, expected: Arrays, tol: float, net: Net) -> list[Check]:
    if len(expected) < len(got):
        raise ValueError(f"verify: got {len(expected)} outputs of the other model, expected {len(got)}")
    checks = []
    for (name, one), other in zip(got.items(), expected.values(), strict=False):
        if one.shape != other.shape:
            if one.size != other.size:
                raise ShapeError(f"verify: {name}: got shape {other.shape}, expected {one.shape}, the net's")
            other = other.reshape(one.shape)
        bits = one.tobytes() == np.ascontiguousarray(other, one.dtype).tobytes()
        a, b = one.astype(np.float64), other.astype(np.float64)
        with np.errstate(all="ignore"):
            away = np.abs(a - b) / np.maximum(1.0, np.abs(b))
        away = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, away)
        away = np.where(np.isnan(away), np.inf, away)
        time = 1 if net._batch_first and away.ndim > 1 else 0
        by_step = np.moveaxis(away, time, 0).reshape(away.shape[time], -1).max(axis=1)
        beyond = np.flatnonzero(by_step > tol)
        checks.append(
            Check(case, name, float(by_step.max(initial=0)), int(beyond[0]) if len(beyond) else None, bits)
        )
    return checks
