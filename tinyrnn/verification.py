"""verify: a net beside the model that it was made from, step by step."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn import proofs
from tinyrnn.arguments import check_float, check_size
from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError, ShapeError
from tinyrnn.loading import load, net_in
from tinyrnn.net import Net
from tinyrnn.progress import watched
from tinyrnn.weights import opened
from tinyrnn.weights.pytorch import Exported, Scripted
from tinyrnn.weights.spec import shown

Arrays = dict[str, NDArray[Any]]
_Places = dict[str, tuple[int | None, int | None]]  # of time and of the batch, by input and output


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
    places: _Places | None = None
    if isinstance(net, Net):
        own = net
    elif _is_onnx(net):
        own, places = _built(net, bound)
        if not isinstance(against, (str, os.PathLike)) or os.fspath(against) != os.fspath(net):
            places = None
    else:
        own = load(net, **(bound if _is_scripted(net) else {}))
    if against is None:
        if isinstance(net, Net):
            raise TypeError("verify: got a net alone, expected against= a model, or the file of a net")
        return _repeated(own, os.fspath(net))
    run, name, fixed, masks, truths = _runner(against, own, bound, places)
    steps = fixed or steps
    cases: list[tuple[str, list[NDArray[Any]]]] = []
    if inputs is not None:
        cases.append(("yours", proofs.arrays_of(inputs)))
    if all(frame is not None for frame, _ in own._ports_known().values()):
        own_cases = _cases(own, steps, truths)
        cases += _unmasked(own_cases) if masks else own_cases
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
    if isinstance(against, (str, os.PathLike)) and _is_onnx(against):
        with opened(against) as file:
            count = dict(file.info.unread).get("rounding of activations", "").partition(",")[0]
        if count:
            return f"a difference is expected: the file rounds activations ({count}), this net in other ways"
    kinds = ", ".join(sorted(set(own.formats.values()) - {"float32"}))
    return f"a difference is expected: layers in {kinds} round weights or what they read" if kinds else ""


def _cases(net: Net, steps: int, truths: Collection[str]) -> list[tuple[str, list[NDArray[Any]]]]:
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


def _runner(
    against: Any, own: Net, bound: dict[str, Any], places: _Places | None
) -> tuple[Callable[[Sequence[NDArray[Any]]], Arrays], str, int | None, bool, Collection[str]]:
    """A function that runs the other model, its name, and the only number of steps that it takes.

    And True if it masks steps by their numbers, where the net needs lengths for that, and the names of its
    inputs that are truth values.
    """
    name = type(against).__name__
    if isinstance(against, (str, os.PathLike)):
        path = name = os.fspath(against)
        if _is_onnx(path):
            run, truths = _runtime(path, own, bound, places)
            return run, name, None, False, truths
        if _is_scripted(path):
            return _module(_torch().jit.load(path), bound), name, None, False, ()
    if bound:
        raise TypeError(
            f"verify: got {', '.join(bound)}, expected numbers beside a file of ONNX or TorchScript"
        )
    if isinstance(against, (str, os.PathLike)):
        if name.lower().endswith((".keras", ".h5", ".hdf5")):
            against = _keras_model(path)
        else:
            with opened(path) as file:
                got = f"verify: got {file.info.format}, expected"  # not our reading beside itself
                if file.nets in ("tinyrnn.onnx.build", "tinyrnn.keras.build"):
                    raise file.error(f"{got} a name in .onnx, .keras, .h5 or .hdf5")
                if isinstance(file.net, Exported):
                    raise file.error(f"{got} the module that it was made from")
                against = net_in(file)
    if isinstance(against, Net):
        return lambda arrays: proofs.outputs_of(against, arrays), name, None, False, ()
    bases = {f"{one.__module__}.{one.__name__}" for one in type(against).__mro__}
    if any(base.startswith("keras.") and base.endswith(".Model") for base in bases):
        return _model(against, own), name, _fixed_steps(against, own), _masks(against, own), ()
    if "torch.nn.modules.module.Module" not in bases:  # without importing PyTorch
        raise TypeError(
            f"verify: against is {brief(against)}, expected a torch.nn.Module, a keras.Model, a net, or a "
            "file's path"
        )
    return _module(against, {}), name, None, False, ()


def _is_onnx(path: str | os.PathLike[str]) -> bool:
    return str(path).lower().endswith(".onnx")


def _is_scripted(path: str | os.PathLike[str]) -> bool:
    if not str(path).lower().endswith((".pt", ".pth", ".jit")):
        return False
    with opened(path) as file:
        return isinstance(file.net, Scripted)


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError:
        raise ImportError("verify: a file of TorchScript runs in PyTorch: pip install torch") from None


def _keras_model(path: str) -> Any:
    try:
        keras = import_module("keras")
    except ImportError:
        raise ImportError("verify: a .keras or .h5 file runs in Keras: pip install keras torch") from None
    try:
        return keras.models.load_model(path, compile=False)
    except (TypeError, ValueError) as error:
        text = shown(str(error))
        raise LoadError(f"verify: {path}: Keras {keras.__version__} does not read it: {text}") from None


def _masks(model: Any, own: Net) -> bool:
    """True if a model of Keras masks steps and the net computes no masks."""
    layers = model._flatten_layers()
    masks = any(type(one).__name__ == "Masking" or getattr(one, "mask_zero", False) for one in layers)
    return masks and not any(type(leaf).__name__ == "Masking" for _, leaf in own._leaves())


def _fixed_steps(model: Any, own: Net) -> int | None:
    """The number of steps that a model of Keras is for, if it is for one alone."""
    timed = [time is not None for _, time in own._ports_known().values()]
    return next((one.shape[1] for one, is_timed in zip(model.inputs, timed, strict=False) if is_timed), None)


def _model(model: Any, own: Net) -> Callable[[Sequence[NDArray[Any]]], Arrays]:
    timed = [time is not None and not own._batch_first for _, time in own._ports_known().values()]

    def run(arrays: Sequence[NDArray[Any]]) -> Arrays:
        given = [
            one.swapaxes(0, 1) if is_first else one for one, is_first in zip(arrays, timed, strict=False)
        ]
        given = [
            one[..., 0] if one.ndim > len(port.shape) else one  # steps of a number each
            for one, port in zip(given, model.inputs, strict=False)
        ]
        found = model.predict_on_batch(given if len(given) > 1 else given[0])
        parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
        return {str(i): np.asarray(one) for i, one in enumerate(parts)}

    return run


def _module(module: Any, bound: dict[str, Any]) -> Callable[[Sequence[NDArray[Any]]], Arrays]:
    import torch

    def run(arrays: Sequence[NDArray[Any]]) -> Arrays:
        modes = [(one, one.training) for one in module.modules()]
        module.eval()
        try:
            with torch.no_grad():
                found = module(*(torch.from_numpy(np.array(one)) for one in arrays), **bound)
        except Exception as error:
            shapes = [one.shape for one in arrays]
            raise ValueError(
                f"verify: the module fails on the net's inputs, of shapes {shapes}: {error}; expected a "
                "module that takes these: put one around it that moves the axes, and adds lengths or states"
            ) from None
        finally:
            for one, mode in modes:
                one.training = mode
        parts, tensors = [found], []
        while parts:
            one = parts.pop(0)
            if isinstance(one, torch.Tensor):
                tensors.append(one)
            elif isinstance(one, (tuple, list, dict)):
                parts[:0] = one.values() if isinstance(one, dict) else one
        return {str(i): one.numpy() for i, one in enumerate(tensors)}

    return run


def _runtime(
    path: str, own: Net, bound: dict[str, Any], places: _Places | None
) -> tuple[Callable[[Sequence[NDArray[Any]]], Arrays], list[str]]:
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError:
        raise ImportError("verify: an .onnx file runs in ONNX Runtime: pip install onnxruntime") from None
    if places is None:
        try:
            _, places = _built(path, bound)
        except (LoadError, TypeError):  # the file is no net of ours
            places = {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ports = {port.name: port for port in session.get_inputs()}
    outputs = [port.name for port in session.get_outputs()]
    known = {name: port for name, port in own._ports_known().items() if name not in own._own_steps}
    axis = int(own._batch_first)
    timed = any(places.get(name, (None, None))[0] is not None for name in ports)
    try:
        own.stream()
        streams = True
    except ValueError:
        streams = False
    if not bound.keys() <= ports.keys() - known.keys():
        raise TypeError(f"verify: got {sorted(bound)}, expected some of the file's inputs {list(ports)}")

    def typed(name: str, array: Any) -> NDArray[Any]:
        kind = ports[name].type.removeprefix("tensor(").removesuffix(")")
        return np.asarray(array, "float32" if kind == "float" else kind)

    def run(arrays: Sequence[NDArray[Any]]) -> Arrays:
        names = [name for name in (known if known.keys() <= ports.keys() else ports) if name not in bound]
        given = {name: typed(name, array) for name, array in zip(names, arrays, strict=False)}
        feed = {name: typed(name, array) for name, array in bound.items()}
        states = [name for name in ports if name not in given and name not in bound]
        for name in states:
            feed[name] = typed(name, np.zeros([n if isinstance(n, int) else 1 for n in ports[name].shape]))
        if timed:
            laid = {
                name: _laid(name, ports[name].shape, one, places[name], axis) for name, one in given.items()
            }
            outs = dict(zip(outputs, session.run(None, feed | laid), strict=True))
            return {name: _back(one, places.get(name, (None, None)), axis) for name, one in outs.items()}
        if not states or not streams:  # no step without the others; perhaps without an axis of rows
            given = {name: _in_rank(ports[name].shape, array, axis) for name, array in given.items()}
        if all(_is_whole(ports[name].shape, array) for name, array in given.items()):
            return dict(zip(outputs, session.run(None, feed | given), strict=True))
        kept = [name for name in outputs if name in own._output_names()]
        kept = kept or outputs[: len(outputs) - len(states)]
        after = [name for name in outputs if name not in kept]
        if len(after) != len(states):
            raise ValueError(
                f"verify: got {len(after)} outputs for the states {states}, expected one for each"
            )
        rows = []
        for step in range(min(array.shape[axis] for array in given.values())):
            for name, array in given.items():
                feed[name] = _framed(name, ports[name].shape, array.take(step, axis))
            found = dict(zip(outputs, session.run(None, feed), strict=True))
            rows.append([found[name] for name in kept])
            feed |= zip(states, (found[name] for name in after), strict=True)
        return {name: np.stack(one, axis) for name, one in zip(kept, zip(*rows, strict=True), strict=True)}

    return run, [name for name, port in ports.items() if port.type == "tensor(bool)"]


def _built(path: str | os.PathLike[str], bound: dict[str, Any]) -> tuple[Net, _Places]:
    """The net of a file with a name in .onnx, and the places of the axes of its inputs and outputs."""
    from tinyrnn.onnx.build import net_and_places

    with opened(path) as file:
        is_onnx = file.nets == "tinyrnn.onnx.build"
        return net_and_places(file, **bound) if is_onnx else (net_in(file, **bound), {})


def _laid(
    name: str, shape: Sequence[Any], array: NDArray[Any], places: tuple[int | None, int | None], axis: int
) -> NDArray[Any]:
    """A sequence of one row, or a value of it, with the axes of a file; rows that it counts are alike."""
    time, batch = places
    found = array.swapaxes(0, 1) if axis and time is not None else array
    steps = [len(found)] if time is not None else []
    sizes = [n if isinstance(n, int) else -1 for i, n in enumerate(shape) if i not in places]
    if time is not None and shape[time] != steps[0] and isinstance(shape[time], int):
        raise ShapeError(
            f"verify: {name}: got {steps[0]} steps, expected {shape[time]}; a file of a fixed number of "
            "steps runs on as many: give it as steps=, or inputs= of that length"
        )
    rows = [] if batch is None else [1]
    found = found.reshape([*steps, *rows, *sizes])
    kept = [place for place in places if place is not None]
    found = np.moveaxis(found, range(len(kept)), kept)
    return found if batch is None or not isinstance(shape[batch], int) else found.repeat(shape[batch], batch)


def _back(array: NDArray[Any], places: tuple[int | None, int | None], axis: int) -> NDArray[Any]:
    """An output of a file with the net's axes, of the first row."""
    _, batch = places
    found = array if batch is None else array.take([0], batch)
    kept = [place for place in places if place is not None]
    found = np.moveaxis(found, kept, range(len(kept)))
    return found.swapaxes(0, 1) if axis and None not in places else found


def _in_rank(shape: Sequence[Any], array: NDArray[Any], axis: int) -> NDArray[Any]:
    """A sequence of one row, without the axis of rows for an input of the file that has one axis less."""
    return array.squeeze(1 - axis) if len(shape) == array.ndim - 1 and array.shape[1 - axis] == 1 else array


def _is_whole(shape: Sequence[Any], array: NDArray[Any]) -> bool:
    """True if an input of the file takes the array as it is."""
    pairs = zip(shape, array.shape, strict=False)
    return len(shape) == array.ndim and all(n == size for n, size in pairs if isinstance(n, int))


def _framed(name: str, shape: Sequence[Any], array: NDArray[Any]) -> NDArray[Any]:
    """One step as an input of the file has it."""
    if _is_whole(shape, array):
        return array
    known = [n for n in shape if isinstance(n, int)]
    free, left = len(shape) - len(known), array.size % max(1, math.prod(known))
    if free > 1 or left or (not free and array.size != math.prod(known)):
        raise ShapeError(
            f"verify: {name}: got steps of shape {array.shape}, expected {list(shape)}; a file of a fixed "
            "number of steps runs on as many: give it as steps=, or inputs= of that length"
        )
    return array.reshape([n if isinstance(n, int) else -1 for n in shape])
