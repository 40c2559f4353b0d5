"""A run of `fit` as one file, from which it goes on to the very same bits.

The file is safetensors. Its tensors are the net's, ``net.<name>``, so that
``net.load_state_dict(load_weights(path), prefix="net")`` takes them alone, and the arrays of the optimiser,
of callbacks and of a state that is carried on. All else is JSON in its metadata, with a CRC-32 over both,
which safetensors itself does not have.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinyrnn.arguments import flag, whole
from tinyrnn.errors import LoadError
from tinyrnn.history import History
from tinyrnn.weights import safetensors
from tinyrnn.weights.spec import Reader, bytes_of

if TYPE_CHECKING:
    from tinyrnn.fitting import Run
    from tinyrnn.model import Net

Path = str | os.PathLike[str]
Tensors = dict[str, NDArray[Any]]

_VERSION = 1
_KEY, _CRC = "tinyrnn_checkpoint", "tinyrnn_crc32"
_NET = "net."
_DROPOUT = ("_dropout_seed", "_train_steps")

# What a damaged or foreign description raises when it is taken apart.
_MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError, OverflowError)


def save(path: Path, run: Run) -> None:
    """Write all that ``run`` is. The file is complete or not there; an older one is kept until then.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    stored = run.net._stored()
    halves = {_NET + name for name, array in stored.items() if array.dtype == np.uint16}
    tensors: Tensors = {_NET + name: array for name, array in stored.items()}
    description = {
        "version": _VERSION,
        "net": run.net._describe(),
        "trained": _trained(run.net),
        "dropout": _dropout(run.net),
        "settings": run.settings,
        "position": {
            "epoch": run.epoch,
            "batch": run.batch,
            "step": run.step,
            "stop": run.stop,
            "total": run.total,
            "weight": run.weight,
            "norm": run.norm,
            "seconds": run.seconds,
        },
        "carried": pack(run.carried, "carried", tensors),
        "random": run.drawn_from,
        "optimizer": pack(run.optimizer.state_dict(), "optimizer", tensors),
        "callbacks": [
            [type(callback).__name__, pack(callback.state_dict(), f"callbacks.{i}", tensors)]
            for i, callback in enumerate(run.callbacks)
        ],
        "history": run.history.to_json(),
    }
    text = json.dumps(description)
    metadata = {"format": "np", _KEY: text, _CRC: f"{_crc(text, tensors):08x}"}
    safetensors.save_safetensors(path, tensors, metadata, bfloat16=halves)


def restore(path: Path, run: Run) -> None:
    """Make ``run`` what it was when the file was written.

    Raises
    ------
    LoadError
        If the file is no checkpoint, or is damaged or cut short.
    ValueError
        If it is of another net, other data or other settings. Nothing has changed then.
    OSError
        If it cannot be read.
    """
    name = os.fspath(path)
    description, tensors = _read(path)
    try:
        mismatch = _mismatch(description, run)
    except _MALFORMED as error:
        raise LoadError(f"{name}: the description in this checkpoint is malformed: {error!r}") from None
    if mismatch:
        raise ValueError(f"{name}: is a checkpoint of another run: {'; '.join(mismatch)}")
    before = _snapshot(run)
    try:
        _take(description, tensors, run)
    except _MALFORMED as error:
        before()
        raise LoadError(f"{name}: this checkpoint does not fit: {error}") from error
    except BaseException:
        before()
        raise


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """The description and the tensors, their checksum compared."""
    with Reader(path) as reader:
        contents = safetensors.read(reader, None)
        text, crc = contents.metadata.get(_KEY), contents.metadata.get(_CRC)
        if text is None or crc is None:
            raise reader.error("is not a checkpoint of fit's")
        tensors = {tensor.name: tensor.raw() for tensor in contents.tensors}
        if crc != f"{_crc(text, tensors):08x}":
            raise reader.error("is damaged: its checksum is another than the one it was written with")
        try:
            description = json.loads(text)
            version = description["version"]
        except _MALFORMED as error:
            raise reader.error(f"its description is malformed: {error!r}") from None
        if version != _VERSION:
            raise reader.error(f"is a checkpoint of version {version!r}, expected {_VERSION}: update tinyrnn")
        return description, tensors


def _mismatch(description: Mapping[str, Any], run: Run) -> list[str]:
    """What is another in the checkpoint than in the run."""
    found = []
    if description["net"] != json.loads(json.dumps(run.net._describe())):
        found.append(f"the net is {_shown(description['net'])}, expected {_shown(run.net._describe())}")
    elif description["trained"] != _trained(run.net):
        found.append(f"it trains {description['trained']}, expected {_trained(run.net)}, as frozen now")
    settings = dict(description["settings"])
    for key, value in run.settings.items():
        if settings.get(key) != value:
            found.append(f"{key}: {settings.get(key)!r}, expected {value!r}")
    if description["position"]["epoch"] > run.epochs:
        found.append(f"it has {description['position']['epoch']} epochs, expected at most {run.epochs}")
    return found


def _take(description: Mapping[str, Any], tensors: Tensors, run: Run) -> None:
    _place(description["position"], unpack(description["carried"], tensors), run)
    run.net.load_state_dict(
        {key[len(_NET) :]: array for key, array in tensors.items() if key.startswith(_NET)}
    )
    run.optimizer.load_state_dict(unpack(description["optimizer"], tensors))
    kept = [[kind, unpack(state, tensors)] for kind, state in description["callbacks"]]
    for callback in run.callbacks:
        kind = type(callback).__name__
        state = next((entry for entry in kept if entry[0] == kind), None)
        if state is not None:  # else it is new, and begins here
            kept.remove(state)
            if state[1]:
                callback.load_state_dict(state[1])
    lacking = [kind for kind, state in kept if state]
    if lacking:
        raise ValueError(f"its callbacks {', '.join(lacking)} are not among fit's")
    if run.generator is not None:
        run.generator.bit_generator.state = description["random"]
    run.drawn_from = description["random"]
    memory = run.history.memory
    run.history = History.from_json(description["history"])
    run.history.memory, run.history.interrupted = memory, False
    run.resumed = True
    _set_dropout(run.net, description["dropout"])


def _place(position: Mapping[str, Any], carried: Any, run: Run) -> None:
    """Where the epoch under way stands."""
    run.epoch = whole("epoch", position["epoch"], 0, run.epochs)
    run.batch = whole("batch", position["batch"], 0, -(-len(run.inputs) // run.batch_size))
    run.step = whole("step", position["step"], 0, 0 if run.bptt is None else run.inputs.longest - 1)
    run.total, run.weight = float(position["total"]), float(position["weight"])
    run.norm, run.seconds = float(position["norm"]), float(position["seconds"])
    run.stop = flag("stop", position["stop"])
    if (carried is not None) != (run.step > 0):
        raise ValueError(
            f"step is {run.step}, expected a state that is carried on from there, and only there"
        )
    if carried is not None:
        sizes = run.state_sizes()
        if carried.dtype != np.float32 or carried.shape not in [(size,) for size in sizes]:
            raise ValueError(
                f"carried: {carried.dtype} of shape {carried.shape}, expected float32 of {sizes}"
            )
    run.carried = carried


def _snapshot(run: Run) -> Callable[[], None]:
    """A function that gives net, optimiser and callbacks back what they are now; the run itself is new."""
    weights, dropout = run.net._stored(), _dropout(run.net)
    optimizer = run.optimizer.state_dict()
    callbacks = [(callback, callback.state_dict()) for callback in run.callbacks]

    def back() -> None:
        run.net.load_state_dict(weights)
        run.optimizer.load_state_dict(optimizer)
        for callback, state in callbacks:
            if state:
                callback.load_state_dict(state)
        _set_dropout(run.net, dropout)

    return back


def _trained(net: Net) -> list[str]:
    return [name for name, _ in net._trainable()]


def _dropout(net: Net) -> dict[str, int]:
    """What the next dropout mask is drawn from."""
    return {name: net.__dict__[name] for name in _DROPOUT if name in net.__dict__}


def _set_dropout(net: Net, kept: Mapping[str, Any]) -> None:
    if not isinstance(kept, Mapping) or not kept.keys() <= set(_DROPOUT):
        raise ValueError(f"dropout: {kept!r}, expected some of {', '.join(_DROPOUT)}")
    values = {name: whole(name, value, 0, 2**64 - 1) for name, value in kept.items()}
    for name in _DROPOUT:
        net.__dict__.pop(name, None)
    net.__dict__.update(values)


def _shown(description: Any) -> str:
    text = json.dumps(description)
    return text if len(text) <= 300 else text[:297] + "..."


# ---- trees of values -----------------------------------------------------------------------------


def pack(value: Any, name: str, tensors: Tensors) -> Any:
    """``value`` as JSON has it; its arrays go to ``tensors``, named by their place.

    Dicts, lists, tuples, arrays, numbers, strings, booleans and None. A dict whose keys are not strings, a
    tuple and an array become a dict with one key that begins with ``"!"``.

    Raises
    ------
    TypeError
        For anything else; the message says where it is.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        tensors[name] = value
        return {"!array": name}
    if isinstance(value, (list, tuple)):
        items = [pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
        return {"!tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        items = [[key, pack(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        plain = all(isinstance(key, str) and not key.startswith("!") for key in value)
        if not plain and not all(isinstance(key, (str, int)) for key in value):
            raise TypeError(f"{name}: keys {list(value)!r}, expected strings or integers")
        return dict(items) if plain else {"!dict": items}
    what = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"{name}: {what} cannot be kept in a checkpoint")


def unpack(value: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """What `pack` was given."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "!array" in value:
        return tensors[value["!array"]]
    if "!tuple" in value:
        return tuple(unpack(item, tensors) for item in value["!tuple"])
    if "!dict" in value:
        return {key: unpack(item, tensors) for key, item in value["!dict"]}
    return {key: unpack(item, tensors) for key, item in value.items()}


def _crc(text: str, tensors: Mapping[str, NDArray[Any]]) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<"))
        crc = zlib.crc32(repr((name, array.dtype.str, tensors[name].shape)).encode(), crc)
        crc = zlib.crc32(bytes_of(array), crc)
    return crc
