"""The models that a net is compared with, run by their own frameworks: ONNX Runtime, PyTorch, Keras."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence, Set
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn import proofs
from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError, ShapeError
from tinyrnn.loading import net_in
from tinyrnn.net import Net
from tinyrnn.weights import opened
from tinyrnn.weights.pytorch import Exported, Scripted
from tinyrnn.weights.spec import shown

Arrays = dict[str, NDArray[Any]]
Places = dict[str, tuple[int | None, int | None]]  # of time and of the batch, by input and output


class Runner(NamedTuple):
    """The model that a net is compared with.

    Attributes
    ----------
    run : callable
        From the net's inputs, of one row, to the outputs by name, with the axes of the net's.
    name : str
    steps : int, optional
        The only number of steps that it takes.
    masks : bool
        True if it masks steps by their numbers, where the net needs lengths for that.
    truths : set of str
        Inputs that are truth values.
    """

    run: Callable[[Sequence[NDArray[Any]]], Arrays]
    name: str
    steps: int | None = None
    masks: bool = False
    truths: Set[str] = frozenset()


def runner(against: Any, own: Net, bound: dict[str, Any], places: Places | None) -> Runner:
    """Find what runs a module, a model or a file beside a net.

    `bound` has numbers of inputs of a file, by name; `places` the axes of an ONNX file, if they are known.
    """
    name = type(against).__name__
    if isinstance(against, (str, os.PathLike)):
        path = name = os.fspath(against)
        if is_onnx(path):
            session = _Session(path, own, bound, places)
            truths = {port.name for port in session.ports.values() if port.type == "tensor(bool)"}
            return Runner(session.run, name, truths=truths)
        if is_scripted(path):
            return Runner(_module(_torch().jit.load(path), bound), name)
    if bound:
        raise TypeError(
            f"verify: got {', '.join(bound)}, expected numbers beside a file of ONNX or TorchScript"
        )
    if isinstance(against, (str, os.PathLike)):
        against = _keras_model(path) if path.lower().endswith((".keras", ".h5", ".hdf5")) else _net_of(path)
    if isinstance(against, Net):
        return Runner(lambda arrays: proofs.outputs_of(against, arrays), name)
    bases = {f"{one.__module__}.{one.__name__}" for one in type(against).__mro__}
    if any(base.startswith("keras.") and base.endswith(".Model") for base in bases):
        return Runner(_model(against, own), name, _fixed_steps(against, own), _masks(against, own))
    if "torch.nn.modules.module.Module" not in bases:  # without importing PyTorch
        raise TypeError(
            f"verify: against is {brief(against)}, expected a torch.nn.Module, a keras.Model, a net, or a "
            "file's path"
        )
    return Runner(_module(against, {}), name)


def _net_of(path: str) -> Net:
    """The net of a file of ours. Of another kind it would be our reading of the file beside itself."""
    with opened(path) as file:
        got = f"verify: got {file.info.format}, expected"
        if file.nets in ("tinyrnn.onnx.build", "tinyrnn.keras.build"):
            raise file.error(f"{got} a name in .onnx, .keras, .h5 or .hdf5")
        if isinstance(file.net, Exported):
            raise file.error(f"{got} the module that it was made from")
        return net_in(file)


def is_onnx(path: str | os.PathLike[str]) -> bool:
    return str(path).lower().endswith(".onnx")


def is_scripted(path: str | os.PathLike[str]) -> bool:
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


class _Session:
    """An .onnx file in ONNX Runtime, in one thread.

    A file of whole sequences takes them at once. One of a single step runs step by step; inputs beyond the
    net's are states, which begin with zeros and go on with the outputs beyond the net's.
    """

    def __init__(self, path: str, own: Net, bound: dict[str, Any], places: Places | None) -> None:
        try:
            onnxruntime = import_module("onnxruntime")
        except ImportError:
            raise ImportError("verify: an .onnx file runs in ONNX Runtime: pip install onnxruntime") from None
        if places is None:
            try:
                _, places = built(path, bound)
            except (LoadError, TypeError):  # the file is no net of ours
                places = {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ports = {port.name: port for port in self.session.get_inputs()}
        self.outputs = [port.name for port in self.session.get_outputs()]
        self.places = places
        self.axis = int(own._batch_first)  # of the net's time
        self.kept = set(own._output_names())
        known = [name for name in own._ports_known() if name not in own._own_steps]
        if not bound.keys() <= self.ports.keys() - set(known):
            raise TypeError(
                f"verify: got {sorted(bound)}, expected some of the file's inputs {list(self.ports)}"
            )
        names = known if set(known) <= self.ports.keys() else self.ports
        self.given = [name for name in names if name not in bound]
        self.bound = {name: self.typed(name, number) for name, number in bound.items()}
        try:
            own.stream()
            self.streams = True
        except ValueError:
            self.streams = False

    def typed(self, name: str, array: Any) -> NDArray[Any]:
        kind = self.ports[name].type.removeprefix("tensor(").removesuffix(")")
        return np.asarray(array, "float32" if kind == "float" else kind)

    def call(self, feed: Arrays) -> Arrays:
        return dict(zip(self.outputs, self.session.run(None, feed), strict=True))

    def run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        given = {name: self.typed(name, array) for name, array in zip(self.given, arrays, strict=False)}
        states = {
            name: self.typed(name, np.zeros([n if isinstance(n, int) else 1 for n in port.shape]))
            for name, port in self.ports.items()
            if name not in given and name not in self.bound
        }
        rest = self.bound | states
        if any(self.places.get(name, (None, None))[0] is not None for name in self.ports):
            return self.by_places(given, rest)
        shapes = {name: self.ports[name].shape for name in given}
        if not states or not self.streams:  # no step without the others; perhaps without an axis of rows
            given = {name: _in_rank(shapes[name], array, self.axis) for name, array in given.items()}
        if all(_is_whole(shapes[name], array) for name, array in given.items()):
            return self.call(rest | given)
        return self.by_steps(given, rest, list(states))

    def by_places(self, given: Arrays, rest: Arrays) -> Arrays:
        """Whole sequences, whose axes the file has in other places."""
        laid = {
            name: _laid(name, self.ports[name].shape, array, self.places[name], self.axis)
            for name, array in given.items()
        }
        return {
            name: _back(array, self.places.get(name, (None, None)), self.axis)
            for name, array in self.call(rest | laid).items()
        }

    def by_steps(self, given: Arrays, rest: Arrays, states: list[str]) -> Arrays:
        """Sequences, of which the file takes a step at a time."""
        kept = [name for name in self.outputs if name in self.kept]
        kept = kept or self.outputs[: len(self.outputs) - len(states)]
        after = [name for name in self.outputs if name not in kept]
        if len(after) != len(states):
            raise ValueError(
                f"verify: got {len(after)} outputs for the states {states}, expected one for each"
            )
        feed, rows = dict(rest), []
        for step in range(min(array.shape[self.axis] for array in given.values())):
            for name, array in given.items():
                feed[name] = _framed(name, self.ports[name].shape, array.take(step, self.axis))
            found = self.call(feed)
            rows.append([found[name] for name in kept])
            feed |= zip(states, (found[name] for name in after), strict=True)
        columns = zip(*rows, strict=True)
        return {name: np.stack(one, self.axis) for name, one in zip(kept, columns, strict=True)}


def built(path: str | os.PathLike[str], bound: dict[str, Any]) -> tuple[Net, Places]:
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
