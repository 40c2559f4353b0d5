"""A run of `fit` as one file, from which it continues to the very same bits.

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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinyrnn.arguments import check_bool, check_float, check_int
from tinyrnn.contract import Module
from tinyrnn.errors import LoadError
from tinyrnn.history import History
from tinyrnn.parameters import trainable
from tinyrnn.runs import Run
from tinyrnn.samples import batches
from tinyrnn.state_dicts import load_state_dict, stored
from tinyrnn.weights import safetensors
from tinyrnn.weights.spec import Reader, bytes_of

Path = str | os.PathLike[str]
Tensors = dict[str, NDArray[Any]]

_VERSION = 1
_KEY, _CRC = "tinyrnn_checkpoint", "tinyrnn_crc32"
_NET = "net."
_DROPOUT = ("_dropout_seed", "_train_steps")  # as files call `Practice.seed` and `passes`

# Entries that a schedule puts into a group when it is made, and that never change.
_SCHEDULED = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")

# Exceptions from taking a damaged or foreign description apart.
_MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError, OverflowError)


def save(path: Path, run: Run) -> None:
    """Write the complete ``run``. The file is complete or not there; an older one stays until then.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    held = stored(run.net)
    halves = {_NET + name for name, array in held.items() if array.dtype == np.uint16}
    tensors: Tensors = {_NET + name: array for name, array in held.items()}
    description = {
        "version": _VERSION,
        "net": run.net._describe(),
        "trained": _trained(run.net),
        "dropout": _dropout(run.net),
        "settings": {**run.settings, "arguments": run.arguments, "seed": run.seed},
        "position": {
            "epoch": run.epoch,
            "batch": run.batch,
            "step": run.step,
            "stop": run.stop,
            "total": run.totals if len(run.totals) > 1 else run.totals[0],
            "weight": run.weights if len(run.weights) > 1 else run.weights[0],
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
    """Bring ``run`` back to the state in the file.

    All of the file is compared with the run before anything changes. Only a callback itself can judge its
    state: it gets it, and everything is undone if it refuses.

    Raises
    ------
    LoadError
        If the file is no checkpoint, is damaged or cut short, or does not fit.
    ValueError
        If it is of another net, other data or other settings. Nothing has changed in each case.
    OSError
        If it cannot be read.
    """
    name = os.fspath(path)
    description, tensors = _read(path)
    try:
        mismatch = _mismatch(description, run)
        if not mismatch:
            found = _checked(description, tensors, run)
    except _MALFORMED as error:
        raise LoadError(f"{name}: this checkpoint is malformed: {_said(error)}") from None
    if mismatch:
        raise ValueError(f"{name}: is a checkpoint of another run: {'; '.join(mismatch)}")
    before = _snapshot(run)
    try:
        _take(found, run)
    except MemoryError:
        before()
        raise
    except Exception as error:  # from a callback, perhaps the user's
        before()
        raise LoadError(f"{name}: this checkpoint does not fit: {_said(error)}") from error
    except BaseException:
        before()
        raise


def _said(error: Exception) -> str:
    """An exception's message, of bounded length."""
    text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    return text if len(text) <= 500 else text[:497] + "..."


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """The description and the tensors, their checksum compared."""
    with Reader(path) as reader:
        contents = safetensors.read(reader, None)
        text, crc = contents.metadata.get(_KEY), contents.metadata.get(_CRC)
        if text is None or crc is None:
            raise reader.error("is not a checkpoint that fit wrote")
        tensors = {tensor.name: tensor.raw() for tensor in contents.tensors}
        if crc != f"{_crc(text, tensors):08x}":
            raise reader.error("is damaged: its checksum differs from the one it was written with")
        try:
            description = json.loads(text)
            version = description["version"]
        except _MALFORMED as error:
            raise reader.error(f"the description of the run is malformed: {error!r}") from None
        if version != _VERSION:
            raise reader.error(f"is a checkpoint of version {version!r}, expected {_VERSION}: update tinyrnn")
        return description, tensors


def _mismatch(description: Mapping[str, Any], run: Run) -> list[str]:
    """List the differences between the checkpoint and the run."""
    found = []
    if description["net"] != json.loads(json.dumps(run.net._describe())):
        found.append(f"the net is {_shown(description['net'])}, expected {_shown(run.net._describe())}")
    elif description["trained"] != _trained(run.net):
        found.append(
            f"it trains {str(description['trained'])[:300]}, expected {_trained(run.net)}, as frozen now"
        )
    settings = dict(description["settings"])
    for key, value in run.settings.items():
        if settings.get(key) != value:
            found.append(f"{key}: got {settings.get(key)!r:.100}, expected {value!r}")
    for kind, arguments in run.arguments.items():
        kept = settings.get("arguments", {}).get(kind)  # not in older files
        if kept is None or settings.get(kind) != run.settings[kind]:
            continue
        for key, value in json.loads(json.dumps(arguments)).items():
            if kept.get(key) != value:
                found.append(f"{kind}: {key} is {_shown(kept.get(key))}, expected {_shown(value)}")
    if run.generator is not None and run.seed is not None:
        wanted = np.random.PCG64(run.seed).state["state"]["inc"]  # which a seed gives, and no step changes
        if description["random"]["state"]["inc"] != wanted:
            theirs = settings.get("seed", "another")
            found.append(
                f"seed: got {_shown(theirs)}, expected {run.seed}: leave out seed= to take the file's"
            )
    if description["position"]["epoch"] > run.epochs:
        found.append(f"it has {description['position']['epoch']} epochs, expected at most {run.epochs}")
    return found


class _Found(NamedTuple):
    """All that a checkpoint holds, compared with the run."""

    net: Tensors
    optimizer: dict[str, Any]
    callbacks: list[tuple[Any, Any]]  # each with its state
    random: Any
    seed: int | None
    history: History
    dropout: dict[str, int]
    position: dict[str, Any]
    carried: NDArray[np.float32] | None


def _checked(description: Mapping[str, Any], tensors: Tensors, run: Run) -> _Found:
    """The contents of a checkpoint, checked: types, ranges and shapes must be the run's."""
    held = stored(run.net)
    net = {key[len(_NET) :]: array for key, array in tensors.items() if key.startswith(_NET)}
    _check_same("net", net, held)
    optimizer = unpack(description["optimizer"], tensors)
    for own, group in zip(run.optimizer.param_groups, optimizer["param_groups"], strict=False):
        for key in _SCHEDULED:
            if None not in (own.get(key), group.get(key)) and group[key] != own[key]:
                raise ValueError(f"optimizer: {key} is {_shown(group[key])}, expected {own[key]}")
    random = _checked_random(description["random"], run)
    position, carried = _checked_position(
        description["position"], unpack(description["carried"], tensors), random, run
    )
    history = History.from_json(description["history"])
    if history.epochs != position["epoch"]:
        raise ValueError(f"history has {history.epochs} epochs, expected {position['epoch']}")
    begun = any(position[key] for key in ("epoch", "batch", "step"))
    dropout = _checked_dropout(description["dropout"], begun)
    seed = description["settings"].get("seed")  # not in older files
    if seed is not None:
        seed = check_int("seed", seed, 0, 2**63 - 1)
        if random is not None and np.random.PCG64(seed).state["state"]["inc"] != random["state"]["inc"]:
            raise ValueError(f"random: got the generator of another seed, expected seed {seed}'s")
    callbacks = _checked_callbacks(description["callbacks"], tensors, held, run)
    return _Found(net, optimizer, callbacks, random, seed, history, dropout, position, carried)


def _check_same(what: str, given: Mapping[str, Any], wanted: Mapping[str, NDArray[Any]]) -> None:
    """Raise an error unless tensors have the names, dtypes and shapes of others."""
    if given.keys() != wanted.keys():
        raise ValueError(
            f"{what}: got tensors {_shown(sorted(map(str, given)))}, expected {_shown(sorted(wanted))}"
        )
    for name, array in wanted.items():
        one = given[name]
        if not isinstance(one, np.ndarray) or (one.dtype, one.shape) != (array.dtype, array.shape):
            has = f"{one.dtype} {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
            raise ValueError(f"{what}: {name} is {has}, expected {array.dtype} {array.shape}")
        if array.dtype.kind == "i":  # a count
            check_int(f"{what}: {name}", one.item(), 0, 2**62)


def _checked_callbacks(
    given: Any, tensors: Tensors, held: Mapping[str, NDArray[Any]], run: Run
) -> list[tuple[Any, Any]]:
    """(callback, its state) of those that are in the file; another one is new, and begins there."""
    if not isinstance(given, list) or not all(
        isinstance(one, list) and len(one) == 2 and isinstance(one[0], str) for one in given
    ):
        raise TypeError("callbacks: expected pairs of a name and a state")
    kept = [(kind, unpack(state, tensors)) for kind, state in given]
    found = []
    for callback in run.callbacks:
        kind = type(callback).__name__
        i = next((i for i, entry in enumerate(kept) if entry[0] == kind), None)
        if i is None:
            continue
        state = kept.pop(i)[1]
        if not isinstance(state, dict):
            raise TypeError(f"{kind}: the state is {type(state).__name__}, expected a mapping")
        weights = callback._weights(state)
        if weights:
            _check_same(f"{type(callback).__name__}: weights", weights, held)
        if state or callback._remembers:
            found.append((callback, state))
    lacking = [kind for kind, state in kept if state]
    if lacking:
        raise ValueError(f"its callbacks {', '.join(lacking)} are not among fit's")
    return found


def _checked_random(state: Any, run: Run) -> Any:
    """The state of the generator of orders, as NumPy's PCG64 has it."""
    if run.generator is None:
        if state is not None:
            raise ValueError("random: expected none, as samples are not shuffled")
        return None
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"random: got {state['bit_generator']!r:.100}, expected PCG64")
    inc = check_int("random: inc", state["state"]["inc"], 0, 2**128 - 1)
    if not inc & 1:
        raise ValueError(f"random: inc is {inc}, expected an odd number")
    return {
        "bit_generator": "PCG64",
        "state": {"state": check_int("random: state", state["state"]["state"], 0, 2**128 - 1), "inc": inc},
        "has_uint32": check_int("random: has_uint32", state["has_uint32"], 0, 1),
        "uinteger": check_int("random: uinteger", state["uinteger"], 0, 2**32 - 1),
    }


def _checked_position(
    given: Mapping[str, Any], carried: Any, random: Any, run: Run
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    """The place that the current epoch has reached, and the state that is carried on from there."""
    generator = None
    if random is not None:
        generator = np.random.Generator(np.random.PCG64(0))
        generator.bit_generator.state = random
    order = batches(run.inputs.lengths, run.batch_size, generator)
    epoch = check_int("epoch", given["epoch"], 0, run.epochs)
    batch = check_int("batch", given["batch"], 0, len(order))
    step = check_int("step", given["step"], 0, 2**62)
    position: dict[str, Any] = {
        "epoch": epoch,
        "batch": batch,
        "step": step,
        "stop": check_bool("stop", given["stop"]),
    }
    for key in ("norm", "seconds"):
        position[key] = _number(key, given[key])
    check_float("seconds", position["seconds"], 0.0)
    for key in ("total", "weight"):
        numbers = given[key] if len(run.goals) > 1 else [given[key]]
        if not isinstance(numbers, list) or len(numbers) != len(run.goals):
            raise TypeError(
                f"{key} is {numbers!r:.100}, expected {len(run.goals)} numbers, one for each loss"
            )
        position[f"{key}s"] = [_number(key, number) for number in numbers]
    for weight in position["weights"]:
        check_float("weight", weight, 0.0)
    if batch == step == 0 and any(position["totals"] + position["weights"]):
        raise ValueError("total and weight: expected none before the first batch of an epoch")
    if (carried is not None) != (step > 0):
        raise ValueError(f"step is {step}, expected a carried state if and only if it is above 0")
    if carried is not None:
        if run.bptt is None or batch == len(order):
            raise ValueError(f"step is {step}, expected 0: no batch is under way")
        rows = order[batch]
        check_int("step", step, 1, int(run.inputs.lengths[rows].max()) - 1)
        if step % run.bptt:
            raise ValueError(f"step is {step}, expected a multiple of {run.bptt}, bptt")
        size = run.state_size(len(rows))
        if not isinstance(carried, np.ndarray) or carried.dtype != np.float32 or carried.shape != (size,):
            has = (
                f"{carried.dtype} {carried.shape}"
                if isinstance(carried, np.ndarray)
                else type(carried).__name__
            )
            raise ValueError(f"carried: got {has}, expected float32 {(size,)}")
    return position, carried


def _number(name: str, value: Any) -> float:
    """A number of JSON, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r:.100}, expected a number")
    return float(value)


def _checked_dropout(kept: Any, begun: bool) -> dict[str, int]:
    """The numbers that give the next dropout mask: both, or neither before the first step."""
    if not isinstance(kept, Mapping) or kept.keys() not in (
        [set(_DROPOUT)] if begun else [set(_DROPOUT), set()]
    ):
        raise ValueError(f"dropout: got {_shown(kept)}, expected {' and '.join(_DROPOUT)}")
    most = {"_dropout_seed": 2**64 - 1, "_train_steps": 2**62}
    return {name: check_int(name, value, 0, most[name]) for name, value in kept.items()}


def _take(found: _Found, run: Run) -> None:
    """Give each part of the file to its owner."""
    load_state_dict(run.net, found.net)
    run.optimizer.load_state_dict(found.optimizer)
    for callback, state in found.callbacks:
        try:
            callback.load_state_dict(state)
        except (TypeError, ValueError):
            raise
        except Exception as error:
            raise ValueError(f"{type(callback).__name__}: {type(error).__name__}: {error}") from error
    if run.generator is not None:
        run.generator.bit_generator.state = found.random
    run.drawn_from = found.random
    run.seed = found.seed if found.seed is not None else run.seed
    memory = run.history.memory
    run.history = found.history
    run.history.memory, run.history.interrupted = memory, False
    for name, value in found.position.items():
        setattr(run, name, value)
    run.carried = found.carried
    run.resumed = True
    _set_dropout(run.net, found.dropout)


def _snapshot(run: Run) -> Callable[[], None]:
    """A function that restores net, optimiser and callbacks to their present state; the run itself is new."""
    weights, dropout = stored(run.net), _dropout(run.net)
    optimizer = run.optimizer.state_dict()
    callbacks = [(callback, callback.state_dict()) for callback in run.callbacks]

    def back() -> None:
        load_state_dict(run.net, weights)
        run.optimizer.load_state_dict(optimizer)
        for callback, state in callbacks:
            if state:
                callback.load_state_dict(state)
        _set_dropout(run.net, dropout)

    return back


def _trained(net: Module) -> list[str]:
    return [name for name, _ in trainable(net)]


def _dropout(net: Module) -> dict[str, int]:
    """The numbers that give the next dropout mask."""
    practice = net._practised()
    if practice.seed is None:
        return {}
    return dict(zip(_DROPOUT, (practice.seed, practice.passes), strict=True))


def _set_dropout(net: Module, kept: Mapping[str, int]) -> None:
    seed, passes = (kept[name] for name in _DROPOUT) if kept else (None, 0)
    net._practised().seed, net._practised().passes = seed, passes


def _shown(description: Any) -> str:
    text = json.dumps(description, default=str)
    return text if len(text) <= 300 else text[:297] + "..."


# ---- trees of values -----------------------------------------------------------------------------


def pack(value: Any, name: str, tensors: Tensors) -> Any:
    """Make ``value`` fit for JSON; its arrays go to ``tensors``, named by their place.

    Dicts, lists, tuples, arrays, numbers, strings, booleans and None. A dict whose keys are not strings, a
    tuple and an array become a dict with one key that begins with ``"!"``.

    Raises
    ------
    TypeError
        For anything else; the message names its place.
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
            raise TypeError(f"{name}: got keys {list(value)!r}, expected strings or integers")
        return dict(items) if plain else {"!dict": items}
    what = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"{name}: {what} cannot be kept in a checkpoint")


def unpack(value: Any, tensors: Mapping[str, NDArray[Any]]) -> Any:
    """The inverse of `pack`."""
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
