"""An optimiser's state in PyTorch's structure: written, and read with all checked before anything changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyrnn._training import STATES, Program
from tinyrnn.arguments import check_float
from tinyrnn.arrays import as_array, as_floats
from tinyrnn.errors import ShapeError, WeightsError
from tinyrnn.optim.groups import Entry, Groups, rule_of
from tinyrnn.optim.moments import Moments
from tinyrnn.state_dicts import quoted
from tinyrnn.tensors import Array

# The entries of PyTorch's groups that only select an implementation of PyTorch.
_TORCH = {"foreach": None, "capturable": False, "differentiable": False, "fused": None}

# Hyperparameters by which a saved group tells its optimiser: those that PyTorch's has had from the first.
# Where a group has "foreach" it is late enough to have what _ADDED lists, too.
_TELLING = {
    "sgd": ("momentum", "dampening"),
    "rmsprop": ("momentum", "alpha", "eps"),
    "adagrad": ("lr_decay",),
    "adam": ("betas", "eps"),
}
_ADDED = {
    "sgd": ("nesterov",),
    "rmsprop": ("centered",),
    "adagrad": ("eps", "initial_accumulator_value"),
    "adam": ("amsgrad",),
}

# The entries of a group that schedules keep there.
_SCHEDULED = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")

# Above this a float32 cannot count by one.
_COUNTS = 2**24

Uses = Sequence[tuple[bool, ...]]


class Saved(NamedTuple):
    """A state that fits.

    Attributes
    ----------
    groups : list of dict
        Hyperparameters of each group, and the entries that schedules keep there.
    states : list of (Entry, int, dict)
        Each tensor with its steps, and its states by their place.
    """

    groups: list[dict[str, Any]]
    states: list[tuple[Entry, int, dict[int, Array]]]


def counted(rule: str) -> bool:
    """Tell whether a tensor's state has the number of its steps."""
    return rule != "sgd"


def written(
    groups: Groups, moments: Moments, rule: str, uses: Uses, ignored: Sequence[str]
) -> dict[str, Any]:
    """Do the work of `Optimizer.state_dict`; ``ignored`` are options of PyTorch's implementation."""
    state: dict[int, dict[str, Array]] = {}
    for place, entry in enumerate(groups.entries):
        if entry.steps == 0 and rule != "adagrad":
            continue
        used = [(i, name) for i, name in enumerate(STATES[rule]) if uses[entry.group][i]]
        one: dict[str, Any] = {}
        if counted(rule):
            dtype = np.float32 if entry.steps <= _COUNTS else np.float64
            one["step"] = np.array(entry.steps, dtype)
        for i, name in used:
            buffer = moments.known(entry, i)
            if buffer is None:  # frozen from the first
                one[name] = np.full(entry.tensor.shape, moments.start(entry), np.float32)
            else:
                one[name] = entry.shaped(buffer)
        if used:
            state[place] = one
    listed = []
    for i, group in enumerate(groups.dicts):
        places = [place for place, entry in enumerate(groups.entries) if entry.group == i]
        own = {name: value for name, value in group.items() if name != "params"}
        extra = {name: _TORCH[name] for name in ignored}
        listed.append({**own, **extra, "param_names": list(group["params"]), "params": places})
    return {"state": state, "param_groups": listed}


def read(groups: Groups, rule: str, state_dict: Mapping[str, Any], settled: dict[str, Any]) -> Saved:
    """The state_dict of these groups; ``settled`` are hyperparameters that no state changes.

    Raises
    ------
    WeightsError, TypeError, ValueError
        See `Optimizer.load_state_dict`.
    """
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
        got = quoted(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
        raise WeightsError(
            f"{groups.kind}: state_dict: got {got or 'an empty mapping'}, "
            "expected a mapping with 'state' and 'param_groups', as state_dict() returns it"
        )
    saved = state_dict["param_groups"]
    if not isinstance(saved, (list, tuple)) or not isinstance(state_dict["state"], Mapping):
        raise WeightsError(
            f"{groups.kind}: state_dict: got {type(saved).__name__} and "
            f"{type(state_dict['state']).__name__}, expected a list of 'param_groups' and a mapping 'state'"
        )
    if not all(isinstance(group, Mapping) and "params" in group for group in saved):
        raise WeightsError(
            f"{groups.kind}: state_dict: a group has no 'params', expected it in each of param_groups"
        )
    sizes = [len(group["params"]) for group in saved]
    wanted = [len(group["params"]) for group in groups.dicts]
    if sizes != wanted:
        raise WeightsError(f"{groups.kind}: state_dict has groups of {sizes} tensors, expected {wanted}")
    _check_rule(groups, rule, saved)
    values = [_group(groups, i, group) | settled for i, group in enumerate(saved)]
    probe = Program(1)
    uses = [probe.set_rule(0, rule, rule_of(group)) for group in values]

    # The places that the saved groups name are ours in the same order.
    places = [place for group in saved for place in group["params"]]
    names = [name for group in saved for name in group.get("param_names", [None] * len(group["params"]))]
    states = {str(place): value for place, value in state_dict["state"].items()}
    ours = sorted(groups.entries, key=lambda entry: entry.group)
    problems: list[str] = []
    loaded: list[tuple[Entry, int, dict[int, Array]]] = []
    for entry, place, name in zip(ours, places, names, strict=True):
        try:
            state = _state(groups.kind, rule, entry, states.pop(str(place), None), uses[entry.group])
            loaded.append((entry, *state))
        except (TypeError, ValueError) as error:
            known = f" (saved as {name})" if name not in (None, entry.name) else ""
            problems.append(f"{entry.name}{known}: {error}")
    if states:
        problems.append(f"state of {quoted(states)}: no group has such a tensor")
    if problems:
        what = f"Error(s) in loading state_dict for {groups.kind}:"
        raise WeightsError("\n\t".join([what, *problems]))
    return Saved(values, loaded)


def _check_rule(groups: Groups, rule: str, saved: Sequence[Mapping[str, Any]]) -> None:
    """Raise an error if the saved groups are of another kind of optimiser.

    One that has no moments yet is known by its hyperparameters alone.
    """
    for i, group in enumerate(saved):
        foreign = [
            name
            for name in dict.fromkeys(
                name for names in (*_TELLING.values(), *_ADDED.values()) for name in names
            )
            if name in group and name not in groups.options
        ]
        wanted = _TELLING[rule] + (_ADDED[rule] if "foreach" in group else ())
        missing = [name for name in ("lr", *wanted) if name not in group]
        if foreign or missing:
            what = [f"has {quoted(foreign)}"] if foreign else []
            what += [f"lacks {quoted(missing)}"] if missing else []
            raise WeightsError(
                f"{groups.kind}: state_dict: group {i} {' and '.join(what)}: expected the state of "
                f"{groups.kind}; load it into the optimiser that it was saved from, or continue without it"
            )


def _group(groups: Groups, i: int, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved group's checked hyperparameters and schedules' entries; ours if it has none."""
    plain = {name: _scalar(value) for name, value in saved.items() if name not in ("params", "param_names")}
    own = {name: value for name, value in groups.dicts[i].items() if name != "params"}
    own |= {name: value for name, value in plain.items() if name not in _TORCH}
    for name in _SCHEDULED:
        if name in own:
            own[name] = check_float(f"{groups.kind}: state_dict: group {i}: {name}", own[name])
    return own | groups.checked(own, f": state_dict: group {i}")


def _state(
    kind: str, rule: str, entry: Entry, saved: Mapping[str, Any] | None, uses: tuple[bool, ...]
) -> tuple[int, dict[int, Array]]:
    """Return a tensor's steps and its states for the core, without those that its rule does not use."""
    if not saved or all(value is None for value in saved.values()):
        return 0, {}
    names = [name for name in STATES[rule] if name]
    unknown = [name for name in saved if name not in (*names, "step")]
    missing = [
        name for name, used in zip(STATES[rule], uses, strict=True) if used and saved.get(name) is None
    ]
    if counted(rule) and "step" not in saved:
        missing.insert(0, "step")
    if unknown or missing:
        what = [f"has {quoted(unknown)}"] if unknown else []
        what += [f"lacks {quoted(missing)}"] if missing else []
        raise ValueError(f"state {' and '.join(what)}: expected that of {kind}")
    steps = _scalar(saved["step"]) if counted(rule) else 1
    if not isinstance(steps, (int, float)) or not 0 <= steps < 2**62 or steps != int(steps):
        raise ValueError(f"step is {steps!r}, expected a count")
    arrays = {}
    for i, name in enumerate(STATES[rule]):
        if not uses[i]:
            continue
        array = as_floats(saved[name], name)
        if array.shape != entry.tensor.shape:
            raise ShapeError(f"{name} has shape {array.shape}, expected {entry.tensor.shape}")
        arrays[i] = np.ascontiguousarray(array.reshape(entry.tensor.core.params[entry.tensor.param][1]))
    return int(steps), arrays


def _scalar(value: Any) -> Any:
    """Convert an array or a tensor of one number to that number; return anything else unchanged."""
    if isinstance(value, (list, tuple)):
        return tuple(_scalar(one) for one in value)
    if hasattr(value, "detach") or isinstance(value, (np.ndarray, np.generic)):
        array = as_array(value)
        return array.item() if array.size == 1 else value
    return value
