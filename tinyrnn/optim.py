"""Optimisers: PyTorch's formulas, arguments and state, one fused pass over a net's packed weights.

A step is done by the core without the GIL and allocates nothing. It is the same for every instruction set
with a fused multiply-add, bit for bit. What PyTorch does not have: ``l1=``, a penalty on the sum of
magnitudes, whose gradient, ``l1 * sign(w)``, is added to the weights'.
"""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinyrnn import _core, schedules
from tinyrnn._core import Guard
from tinyrnn._optim import ARGUMENTS, STATES, Program
from tinyrnn.arguments import check_bool, check_float
from tinyrnn.arrays import as_array, as_floats
from tinyrnn.attributes import Guarded, brief
from tinyrnn.errors import NonFiniteError, ShapeError, WeightsError
from tinyrnn.model import STATISTICS, Net, Tensor, _quoted
from tinyrnn.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "check_gradients",
    "clip_grad_norm",
    "clip_grad_value",
    "schedules",
]

Array = NDArray[np.float32]
Params = Net | Sequence[Net] | Sequence[Mapping[str, Any]]

# What to do about a gradient that is not finite.
_NONFINITE = ("stop", "skip", "warn")

# What PyTorch keeps in a group that only says how PyTorch computes.
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

# What schedules keep in a group.
_SCHEDULED = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum")

# Beyond it a float32 no longer counts by one.
_COUNTS = 2**24


# ---- hyperparameters ------------------------------------------------------------------------------


def _rule(group: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters by the core's names."""
    given = {**group, "decoupled": group.get("decoupled_weight_decay", False)}
    given["beta1"], given["beta2"] = group.get("betas", (0.0, 0.0))
    return {name: given[name] for name in ARGUMENTS if name in given}


def _at_least_zero(name: str, value: Any) -> float:
    return check_float(name, value, 0)


def _part(name: str, value: Any) -> float:
    return check_float(name, value, 0, 1)


def _betas(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}, expected two numbers")
    for i, beta in enumerate(value):
        if check_float(f"{name}[{i}]", beta, 0, 1) == 1:
            raise ValueError(f"{name}[{i}] is {beta}, expected 0 <= beta < 1")
    return float(value[0]), float(value[1])


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "lr": _at_least_zero,
    "momentum": _at_least_zero,
    "dampening": check_float,
    "weight_decay": _at_least_zero,
    "l1": _at_least_zero,
    "nesterov": check_bool,
    "maximize": check_bool,
    "alpha": _part,
    "eps": _at_least_zero,
    "centered": check_bool,
    "lr_decay": _at_least_zero,
    "initial_accumulator_value": _at_least_zero,
    "betas": _betas,
    "amsgrad": check_bool,
    "decoupled_weight_decay": check_bool,
}


# ---- optimisers -----------------------------------------------------------------------------------


@dataclass(eq=False)
class _Entry:
    """One tensor of an optimiser: its place in it, its name, and the steps that were done with it."""

    tensor: Tensor
    name: str
    group: int
    steps: int = 0

    @property
    def key(self) -> tuple[int, int]:
        return id(self.tensor.core), self.tensor.param

    def shaped(self, packed: Array) -> Array:
        """Its numbers in a flat array that is laid out as its weights: a new array."""
        return self.tensor.core.unpack_from(self.tensor.param, packed).reshape(self.tensor.shape)


class Optimizer(Guarded, ABC):
    """What all optimisers share.

    Parameters
    ----------
    params : Net, list of Net, or list of dict
        What is trained: all parameters of the nets, each once. Or groups with hyperparameters of their own,
        as in PyTorch: ``{"params": net["0"], "lr": 1e-4}``; what a group leaves out is as for all. Its
        ``"params"`` are a net (every layer is one), a list of nets, or names of tensors and layers of
        ``net``: ``{"params": ["0", "2.bias"]}``.
    options : dict
        Hyperparameters by name; names that the optimiser does not know are passed over, so that a
        constructor can hand over all of its arguments. All know ``maximize`` and ``l1``, a penalty on
        magnitudes that adds ``l1 * sign(w)`` to the gradient.
    net : Net, optional
        The net whose tensors the groups name.

    Attributes
    ----------
    param_groups : list of dict
        The groups: hyperparameters, which may be changed between steps, and ``"params"``, names.
    skipped : int
        Steps that were left out since a gradient was not finite.

    Raises
    ------
    TypeError, ValueError
        If a hyperparameter is out of range; a group or a net holds no parameter; a name is unknown; a tensor
        is in two groups; a layer is not kept in float32.
    """

    _made_by = "_laid"
    _settable = ("skipped",)
    _kept = ("param_groups", "defaults")
    _kind: ClassVar[str]
    _options: ClassVar[tuple[str, ...]]
    _torch: ClassVar[tuple[str, ...]] = ("foreach", "differentiable", "fused")

    def __init__(self, params: Params, options: dict[str, Any], net: Net | None) -> None:
        self._name = type(self).__name__
        self._guard = Guard(
            f"{self._name}: in use by another thread, expected one at a time; give each thread a net and an "
            "optimizer of its own"
        )
        self.skipped = 0
        self.defaults = self._checked(options, "")
        self.param_groups: list[dict[str, Any]] = []
        self._nets: list[Net] = []
        self._entries: list[_Entry] = []
        for members, given in self._grouped(params, net):
            self._add(members, given)
        order = [id(tensor.core) for one in self._nets for _, tensor in _parameters(one)]
        place = {core: i for i, core in reversed(list(enumerate(order)))}
        self._ordered = sorted(
            self._entries, key=lambda entry: (place[id(entry.tensor.core)], entry.tensor.param)
        )

        self._buffers: dict[tuple[int, int], Array] = {}
        self._program = Program(len(self.param_groups))
        self._values: list[tuple[Any, ...] | None] = [None] * len(self.param_groups)
        self._uses: list[tuple[bool, ...]] = [()] * len(self.param_groups)
        self._freezes: list[int] | None = None
        self._laid: list[_Entry] = []
        self._idle: list[_Entry] = []  # frozen
        self._refresh()

    # ---- groups ----------------------------------------------------------------------------------

    def _checked(self, options: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The hyperparameters in ``options``, each checked."""
        checked = {}
        for name in self._options:
            if name not in options:
                raise ValueError(f"{self._name}{where}: {name} is missing")
            try:
                checked[name] = _CHECKS[name](name, options[name])
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self._name}{where}: {error}") from None
        if checked.get("nesterov") and (checked["momentum"] == 0 or checked["dampening"] != 0):
            raise ValueError(f"{self._name}{where}: nesterov wants a momentum above 0, and dampening 0")
        return checked

    def _grouped(self, params: Any, net: Net | None) -> list[tuple[Any, Mapping[str, Any]]]:
        """(members, hyperparameters) of every group that ``params`` asks for."""
        self._named = net
        if isinstance(params, Net):
            return [(params, {})]
        if isinstance(params, (str, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(f"{self._name}: params is {type(params).__name__}, expected a net or a list")
        params = list(params)
        if not params:
            raise ValueError(f"{self._name}: params is an empty list")
        groups = [isinstance(one, Mapping) for one in params]
        if not any(groups):
            return [(params, {})]
        if not all(groups):
            raise TypeError(f"{self._name}: params mixes groups with others, expected groups or nets")
        for i, group in enumerate(params):
            unknown = [str(name) for name in group if name not in (*self._options, "params")]
            if unknown or "params" not in group:
                what = f"unknown {_quoted(unknown)}" if unknown else "no 'params'"
                expected = ", ".join(("params", *self._options))
                raise ValueError(f"{self._name}: group {i}: {what}, expected {expected}")
        return [(group["params"], group) for group in params]

    def _add(self, members: Any, given: Mapping[str, Any]) -> None:
        """One more group."""
        i = len(self.param_groups)
        where = f": group {i}" if given else ""
        options = self._checked({**self.defaults, **given}, where)
        found = self._members(members, where)
        if not found:
            raise ValueError(f"{self._name}{where}: no parameters to train")
        taken = {entry.key: entry for entry in self._entries}
        for name, tensor in found:
            entry = _Entry(tensor, name, i)
            if entry.key in taken:
                raise ValueError(
                    f"{self._name}{where}: {name} is in group {taken[entry.key].group} already, "
                    "expected each tensor in one group"
                )
            self._entries.append(entry)
        self.param_groups.append({"params": [name for name, _ in found], **options})

    def _members(self, members: Any, where: str) -> list[tuple[str, Tensor]]:
        """(name, tensor) of all that a group's ``params`` mean, each once, in the nets' order."""
        listed = [members] if isinstance(members, (Net, str)) else list(members)
        nets = [one for one in listed if isinstance(one, Net)]
        names = [one for one in listed if isinstance(one, str)]
        if len(nets) + len(names) < len(listed) or (nets and names):
            kinds = ", ".join(sorted({type(one).__name__ for one in listed}))
            raise TypeError(f"{self._name}{where}: params holds {kinds}, expected nets or names")
        if names and self._named is None:
            raise TypeError(f"{self._name}{where}: params holds names; pass the net whose they are as net=")
        if names:
            assert self._named is not None
            nets = [self._named]
        self._nets += [one for one in nets if all(one is not known for known in self._nets)]
        found: dict[tuple[int, int], tuple[str, Tensor]] = {}
        for one in nets:
            for name, tensor in _parameters(one):
                found.setdefault((id(tensor.core), tensor.param), (name, tensor))
        if not names:
            return list(found.values())

        def fits(tensor: str, name: str) -> bool:
            return tensor == name or tensor.startswith(name.removesuffix(".") + ".")

        known = [name for name, _ in found.values()]
        unknown = [name for name in names if not any(fits(tensor, name) for tensor in known)]
        if unknown:
            raise ValueError(
                f"{self._name}{where}: {_quoted(unknown)}: no such parameter or layer of the net; "
                f"it has {_quoted(known)}"
            )
        return [pair for pair in found.values() if any(fits(pair[0], name) for name in names)]

    def _refusal(self, name: str, value: Any) -> AttributeError:
        if name in self._options:
            return AttributeError(
                f"{self._name}.{name}: hyperparameters are set in a group, "
                f'optimizer.param_groups[0]["{name}"] = {brief(value)}'
            )
        return super()._refusal(name, value)

    @property
    def lr(self) -> float:
        """The learning rate of the first group. Set, it is that of all groups."""
        rate: float = self.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        rate = _at_least_zero(f"{self._name}: lr", value)
        for group in self.param_groups:
            group["lr"] = rate

    @property
    def state_bytes(self) -> int:
        """Bytes of what the optimiser remembers."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def __repr__(self) -> str:
        groups = [
            ", ".join(f"{name}={group[name]!r}" for name in self._options) for group in self.param_groups
        ]
        counts = [len(group["params"]) for group in self.param_groups]
        rows = "".join(f"\n  ({n} tensors) {text}" for n, text in zip(counts, groups, strict=True))
        return f"{self._name}({rows}\n)"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self._name}: cannot be copied or pickled, as it points into its nets; make another for the "
            "copied net, and give it this one's state_dict()"
        )

    # ---- a step ----------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Bring the program up to date with `param_groups` and with what is frozen."""
        groups = self.param_groups
        if len(groups) != len(self._values):
            raise ValueError(
                f"{self._name}: param_groups has {len(groups)} groups, expected {len(self._values)}, as at "
                "first: make another optimizer for other groups"
            )
        values = [tuple(map(group.get, self._options)) for group in groups]
        freezes = [net._freezes for net in self._nets]
        if values == self._values and freezes == self._freezes:
            return
        changed = {
            i: self._checked(group, f": group {i}" if len(groups) > 1 else "")
            for i, group in enumerate(groups)
            if values[i] != self._values[i]
        }
        uses = list(self._uses)
        for i, options in changed.items():
            uses[i] = self._program.set_rule(i, self._kind, _rule(options))
            self._values[i] = values[i]
        if uses != self._uses or freezes != self._freezes:
            self._uses, self._freezes = uses, freezes
            self._lay()

    def _count(self) -> None:
        """Take over the steps that the program has counted."""
        for entry, steps in zip(self._laid, self._program.steps(), strict=True):
            entry.steps = steps

    def _lay(self) -> None:
        """Compile the tensors that are not frozen, and give them what their rules need to remember."""
        self._count()
        active: set[tuple[int, int]] = set()
        for net in self._nets:
            active |= {(id(tensor.core), tensor.param) for _, tensor in net._trainable()}
        self._laid = [entry for entry in self._ordered if entry.key in active]
        self._idle = [entry for entry in self._ordered if entry.key not in active]
        tensors = []
        for entry in self._laid:
            core = entry.tensor.core
            states = [
                self._buffer(entry, i) if used else None for i, used in enumerate(self._uses[entry.group])
            ]
            tensors.append((core, entry.tensor.param, states, entry.group, entry.steps))
        self._program.lay(tensors)

    def _buffer(self, entry: _Entry, i: int) -> Array:
        """The i-th state of a core layer, laid out as its weights."""
        core = entry.tensor.core
        if (id(core), i) not in self._buffers:
            buffer = _core.aligned_zeros(core.nbytes)
            for other in self._entries:
                if other.tensor.core is core:
                    first, numbers = core.extent(other.tensor.param)
                    buffer[first : first + numbers] = self._initial(other)
            self._buffers[id(core), i] = buffer
        return self._buffers[id(core), i]

    def _initial(self, entry: _Entry) -> float:
        """What a state begins with."""
        value: float = self.param_groups[entry.group].get("initial_accumulator_value", 0.0)
        return value

    def step(self, nonfinite: str = "stop") -> bool:
        """Update the weights from the gradients.

        A tensor that has no gradient, as there was no ``backward`` since `zero_grad`, is passed over, as in
        PyTorch: no decay, no momentum, no count of steps.

        Parameters
        ----------
        nonfinite : {"stop", "skip", "warn"}
            What to do where a gradient holds a NaN or an infinity. The weights and all that the optimiser
            remembers stay as they are in each case. ``"stop"``: raise. ``"skip"``: leave this step out and
            count it in `skipped`. ``"warn"``: the same, with a `RuntimeWarning`.

        Returns
        -------
        bool
            Whether the step was done.

        Raises
        ------
        NonFiniteError
            With ``"stop"``: says in which tensor the gradients went wrong.
        """
        check_nonfinite(nonfinite)
        with self._guard:
            self._refresh()
            done = self._program.run() == 0
        if done:
            return True
        self._refuse(nonfinite)
        return False

    def _refuse(self, nonfinite: str, cause: str = "") -> None:
        """Raise, warn or count, after the program has found a gradient that is not finite; ``cause``: what is
        known of why."""
        if nonfinite == "stop":
            raise NonFiniteError(f"{self._name}: {self._diagnosis()}{cause} The weights are as before.")
        self.skipped += 1
        if nonfinite == "warn":
            message = f"{self._name}: {self._diagnosis()}{cause} This step is left out."
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def _diagnosis(self) -> str:
        """Where the gradients went wrong: in the last such tensor, since backward runs from the net's end."""
        bad = []
        for entry in self._laid:
            gradient = entry.shaped(entry.tensor.core.gradients())
            nan, inf = int(np.isnan(gradient).sum()), int(np.isinf(gradient).sum())
            if nan or inf:
                bad.append((entry, nan, inf, gradient.size))
        entry, nan, inf, numbers = bad[-1]
        counts = " and ".join(f"{count} {what}" for count, what in ((nan, "NaN"), (inf, "inf")) if count)
        also = f"; so have {len(bad) - 1} tensors before it" if len(bad) > 1 else ""
        where = f"{entry.name} ({entry.tensor.core.kind})"
        return f"the gradient of {where} has {counts} in {numbers} numbers{also}."

    def zero_grad(self) -> None:
        """Set the gradients to zero; a `step` passes them over until there is a ``backward``."""
        with self._guard:
            self._refresh()
            self._program.clear()
            for entry in self._idle:  # what was frozen after a backward
                core = entry.tensor.core
                if core.has_gradients:
                    first, numbers = core.extent(entry.tensor.param)
                    core.gradients()[first : first + numbers] = 0.0
                    core.graded &= ~(1 << entry.tensor.param)

    # ---- state -----------------------------------------------------------------------------------

    def _used(self, group: int) -> list[tuple[int, str]]:
        """(place, name) of the states that a group's rule needs."""
        return [(i, name) for i, name in enumerate(STATES[self._kind]) if self._uses[group][i]]

    @property
    def _counted(self) -> bool:
        """Whether a tensor's state says how many steps were done with it."""
        return self._kind != "sgd"

    def state_dict(self) -> dict[str, Any]:
        """What the optimiser remembers, in PyTorch's structure, as copies.

        Returns
        -------
        dict
            ``"state"``: for each tensor that was ever updated, by its place, ``"step"`` and arrays of its
            shape. ``"param_groups"``: hyperparameters, and the places of its tensors. With its arrays made
            tensors it loads into PyTorch's optimiser of the same parameters.
        """
        with self._guard:
            self._refresh()
            self._count()
            return self._state_dict()

    def _state_dict(self) -> dict[str, Any]:
        state: dict[int, dict[str, Array]] = {}
        for place, entry in enumerate(self._entries):
            if entry.steps == 0 and self._kind != "adagrad":
                continue
            used = self._used(entry.group)
            one: dict[str, Any] = {}
            if self._counted:
                dtype = np.float32 if entry.steps <= _COUNTS else np.float64
                one["step"] = np.array(entry.steps, dtype)
            for i, name in used:
                buffer = self._buffers.get((id(entry.tensor.core), i))
                if buffer is None:  # frozen from the first
                    one[name] = np.full(entry.tensor.shape, self._initial(entry), np.float32)
                else:
                    one[name] = entry.shaped(buffer)
            if used:
                state[place] = one
        groups = []
        for i, group in enumerate(self.param_groups):
            places = [place for place, entry in enumerate(self._entries) if entry.group == i]
            own = {name: value for name, value in group.items() if name != "params"}
            extra = {name: _TORCH[name] for name in self._torch}
            groups.append({**own, **extra, "param_names": list(group["params"]), "params": places})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, or PyTorch's optimiser of the same parameters in the same order.

        As in PyTorch the hyperparameters are those that are loaded; but an `AdamW` stays one when it takes an
        Adam's state. Training goes on with the very bits with which it would have gone on.

        Raises
        ------
        WeightsError
            If it is another optimiser's; if groups, tensors, shapes or names do not fit. Nothing has changed
            then.
        TypeError, ValueError
            If a hyperparameter is out of range; nothing has changed then.
        """
        with self._guard:
            self._refresh()
            self._count()
            self._load_state_dict(state_dict)

    def _load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise WeightsError(f"{self._name}: a state_dict has 'state' and 'param_groups'")
        saved = state_dict["param_groups"]
        if not isinstance(saved, (list, tuple)) or not isinstance(state_dict["state"], Mapping):
            raise WeightsError(f"{self._name}: expected a list of 'param_groups' and a mapping 'state'")
        if not all(isinstance(group, Mapping) and "params" in group for group in saved):
            raise WeightsError(f"{self._name}: expected 'params' in each of the state_dict's param_groups")
        sizes = [len(group["params"]) for group in saved]
        wanted = [len(group["params"]) for group in self.param_groups]
        if sizes != wanted:
            raise WeightsError(f"{self._name}: state_dict has groups of {sizes} tensors, expected {wanted}")
        self._check_kind(saved)
        groups = [self._loaded_group(i, group) for i, group in enumerate(saved)]
        probe = Program(1)
        uses = [probe.set_rule(0, self._kind, _rule(group)) for group in groups]

        # The places that the saved groups name are ours in the same order.
        places = [place for group in saved for place in group["params"]]
        names = [name for group in saved for name in group.get("param_names", [None] * len(group["params"]))]
        states = {str(place): value for place, value in state_dict["state"].items()}
        ours = sorted(self._entries, key=lambda entry: entry.group)
        problems: list[str] = []
        loaded: list[tuple[int, dict[int, Array]]] = []
        for entry, place, name in zip(ours, places, names, strict=True):
            try:
                loaded.append(self._loaded_state(entry, states.pop(str(place), None), uses[entry.group]))
            except (TypeError, ValueError) as error:
                known = f" (saved as {name})" if name not in (None, entry.name) else ""
                problems.append(f"{entry.name}{known}: {error}")
        if states:
            problems.append(f"state of {_quoted(states)}: no group has such a tensor")
        if problems:
            what = f"Error(s) in loading state_dict for {self._name}:"
            raise WeightsError("\n\t".join([what, *problems]))

        for group, values in zip(self.param_groups, groups, strict=True):
            group.update(values)
        self._buffers.clear()
        self._laid = []  # their steps are those that are loaded
        for entry, (steps, arrays) in zip(ours, loaded, strict=True):
            entry.steps = steps
            for i, array in arrays.items():
                entry.tensor.core.pack_into(entry.tensor.param, self._buffer(entry, i), array)
        self._freezes = None
        self._program.lay([])
        self._refresh()

    def _check_kind(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """An error if the saved groups are of another kind of optimiser. One that has no moments yet is known
        by its hyperparameters alone."""
        for i, group in enumerate(saved):
            foreign = [
                name
                for name in dict.fromkeys(
                    name for names in (*_TELLING.values(), *_ADDED.values()) for name in names
                )
                if name in group and name not in self._options
            ]
            wanted = _TELLING[self._kind] + (_ADDED[self._kind] if "foreach" in group else ())
            missing = [name for name in ("lr", *wanted) if name not in group]
            if foreign or missing:
                what = [f"has {_quoted(foreign)}"] if foreign else []
                what += [f"lacks {_quoted(missing)}"] if missing else []
                raise WeightsError(
                    f"{self._name}: state_dict: group {i} {' and '.join(what)}, expected the state of "
                    f"{self._name}: load it into the optimiser that it was saved from, or go on without it"
                )

    def _loaded_group(self, i: int, saved: Mapping[str, Any]) -> dict[str, Any]:
        """A saved group's hyperparameters, checked, and what schedules keep there; ours if it has none."""
        plain = {
            name: _scalar(value) for name, value in saved.items() if name not in ("params", "param_names")
        }
        own = {name: value for name, value in self.param_groups[i].items() if name != "params"}
        own |= {name: value for name, value in plain.items() if name not in _TORCH}
        for name in _SCHEDULED:
            if name in own:
                own[name] = check_float(f"{self._name}: state_dict: group {i}: {name}", own[name])
        return own | self._checked(own, f": state_dict: group {i}")

    def _loaded_state(
        self, entry: _Entry, saved: Mapping[str, Any] | None, uses: tuple[bool, ...]
    ) -> tuple[int, dict[int, Array]]:
        """A tensor's steps and its states, as the core takes them; what a rule no longer uses is left out."""
        if not saved or all(value is None for value in saved.values()):
            return 0, {}
        names = [name for name in STATES[self._kind] if name]
        unknown = [name for name in saved if name not in (*names, "step")]
        missing = [
            name
            for name, used in zip(STATES[self._kind], uses, strict=True)
            if used and saved.get(name) is None
        ]
        if self._counted and "step" not in saved:
            missing.insert(0, "step")
        if unknown or missing:
            what = [f"has {_quoted(unknown)}"] if unknown else []
            what += [f"lacks {_quoted(missing)}"] if missing else []
            raise ValueError(f"state {' and '.join(what)}, expected that of {self._name}")
        steps = _scalar(saved["step"]) if self._counted else 1
        if not isinstance(steps, (int, float)) or not 0 <= steps < 2**62 or steps != int(steps):
            raise ValueError(f"step is {steps!r}, expected a count")
        arrays = {}
        for i, name in enumerate(STATES[self._kind]):
            if not uses[i]:
                continue
            array = as_floats(saved[name], name)
            if array.shape != entry.tensor.shape:
                raise ShapeError(f"{name} has shape {array.shape}, expected {entry.tensor.shape}")
            arrays[i] = np.ascontiguousarray(array.reshape(entry.tensor.core.params[entry.tensor.param][1]))
        return int(steps), arrays


def _parameters(net: Net) -> list[tuple[str, Tensor]]:
    """(full name, tensor) of every parameter of a net, in its order; a shared layer's each time."""
    if not isinstance(net, Net):
        raise TypeError(f"{type(net).__name__} is no net")
    return [
        (prefix + tensor.name, tensor)
        for prefix, leaf in net._leaves()
        for tensor in leaf._tensors()
        if tensor.name not in STATISTICS
    ]


def _scalar(value: Any) -> Any:
    """A number that came as an array or a tensor of one; anything else as it is."""
    if isinstance(value, (list, tuple)):
        return tuple(_scalar(one) for one in value)
    if hasattr(value, "detach") or isinstance(value, (np.ndarray, np.generic)):
        array = as_array(value)
        return array.item() if array.size == 1 else value
    return value


def check_nonfinite(nonfinite: str) -> None:
    """Raise ValueError unless it is one of the ways to go on that `Optimizer.step` knows."""
    if nonfinite not in _NONFINITE:
        raise ValueError(f"nonfinite is {nonfinite!r}, expected one of {', '.join(_NONFINITE)}")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if given.

    ``m = momentum m + (1 - dampening) g`` (at first ``m = g``), ``w -= lr m``, with ``nesterov``
    ``w -= lr (g + momentum m)``; ``g`` includes ``weight_decay w``. As `torch.optim.SGD`.

    Parameters
    ----------
    params, l1, net
        As `Optimizer` takes them.
    lr, momentum, dampening, weight_decay, nesterov, maximize
        As in PyTorch.
    """

    _kind = "sgd"
    _options = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "l1")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
        net: Net | None = None,
    ) -> None:
        super().__init__(params, locals(), net)


class RMSprop(Optimizer):
    """Steps divided by a moving root mean square of the gradient.

    ``v = alpha v + (1 - alpha) g²``, ``w -= lr g / (sqrt(v) + eps)``; ``centered`` takes the variance, ``v``
    less the square of a moving mean; with ``momentum`` the quotients go through a buffer. As
    `torch.optim.RMSprop`, but for a variance that rounding turns negative, which is 0 here and a NaN there.

    Parameters
    ----------
    params, l1, net
        As `Optimizer` takes them.
    lr, alpha, eps, weight_decay, momentum, centered, maximize
        As in PyTorch; ``alpha`` at most 1.
    """

    _kind = "rmsprop"
    _options = ("lr", "momentum", "alpha", "eps", "centered", "weight_decay", "maximize", "l1")
    _torch = ("foreach", "capturable", "differentiable")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
        net: Net | None = None,
    ) -> None:
        super().__init__(params, locals(), net)


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far.

    ``v += g²``, ``w -= lr / (1 + step lr_decay) g / (sqrt(v) + eps)``. As `torch.optim.Adagrad`.

    Parameters
    ----------
    params, l1, net
        As `Optimizer` takes them.
    lr, lr_decay, weight_decay, initial_accumulator_value, eps, maximize
        As in PyTorch.
    """

    _kind = "adagrad"
    _options = ("lr", "lr_decay", "eps", "weight_decay", "initial_accumulator_value", "maximize", "l1")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        l1: float = 0,
        net: Net | None = None,
    ) -> None:
        super().__init__(params, locals(), net)


class Adam(Optimizer):
    """Moving means of the gradient and of its square, corrected for their start at zero.

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g²``, ``w -= lr (m / (1 - beta1^step)) /
    (sqrt(v / (1 - beta2^step)) + eps)``; ``amsgrad`` takes the largest ``v`` so far. As `torch.optim.Adam`;
    there, too, ``weight_decay`` is a penalty that goes through the moments.

    Parameters
    ----------
    params, l1, net
        As `Optimizer` takes them.
    lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay
        As in PyTorch.
    """

    _kind = "adam"
    _options = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "decoupled_weight_decay", "l1")
    _torch = ("foreach", "capturable", "differentiable", "fused")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        l1: float = 0,
        net: Net | None = None,
    ) -> None:
        super().__init__(params, locals(), net)


class AdamW(Adam):
    """`Adam` with a weight decay past the moments, ``w *= 1 - lr weight_decay``. As `torch.optim.AdamW`.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, amsgrad, maximize, l1, net
        As `Adam` takes them; a weight decay of 0.01 unless given.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        l1: float = 0,
        net: Net | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            l1=l1,
            net=net,
        )

    def _loaded_group(self, i: int, saved: Mapping[str, Any]) -> dict[str, Any]:
        return super()._loaded_group(i, saved) | {"decoupled_weight_decay": True}


# ---- gradients ------------------------------------------------------------------------------------


def _over(what: Optimizer | Net | Sequence[Net]) -> Optimizer:
    """An optimiser over the gradients of ``what``, that remembers nothing; hold its guard, and refresh it."""
    if isinstance(what, Optimizer):
        return what
    if not isinstance(what, (Net, Sequence)):
        raise TypeError(f"nets is {type(what).__name__}, expected a net, a list of nets, or an optimiser")
    return SGD(what, lr=0)


def clip_grad_norm(nets: Optimizer | Net | Sequence[Net], max_norm: float) -> float:
    """Scale the gradients in place so that the norm of all of them is at most ``max_norm``.

    They are multiplied by ``max_norm / (norm + 1e-6)`` where that is below 1, as
    `torch.nn.utils.clip_grad_norm_` does. Frozen tensors do not count. Where a gradient is not finite they
    stay as they are, so that `Optimizer.step` and `check_gradients` can tell which one it was.

    Parameters
    ----------
    nets : Net, list of Net, or Optimizer
        Whose gradients.
    max_norm : float
        At least 0.

    Returns
    -------
    float
        The norm before; not finite where a gradient is not. The sums are in double, the same on every
        machine.
    """
    limit = _at_least_zero("clip_grad_norm: max_norm", max_norm)
    optimizer = _over(nets)
    program = optimizer._program
    with optimizer._guard:
        optimizer._refresh()
        if program.measure() == 0:
            program.clip(limit, np.inf)
        return program.norm


def clip_grad_value(nets: Optimizer | Net | Sequence[Net], clip_value: float) -> None:
    """Bound every number of the gradients by ``-clip_value .. clip_value``, in place; a NaN stays.

    As `torch.nn.utils.clip_grad_value_`.

    Parameters
    ----------
    nets : Net, list of Net, or Optimizer
        Whose gradients.
    clip_value : float
        At least 0.
    """
    limit = _at_least_zero("clip_grad_value: clip_value", clip_value)
    optimizer = _over(nets)
    with optimizer._guard:
        optimizer._refresh()
        optimizer._program.clip(np.inf, limit)


def check_gradients(nets: Optimizer | Net | Sequence[Net]) -> None:
    """Raise if a gradient is not finite.

    Parameters
    ----------
    nets : Net, list of Net, or Optimizer
        Whose gradients.

    Raises
    ------
    NonFiniteError
        Names the tensor in which it began: the last one of the net that has a NaN or an infinity, since the
        backward pass runs from the net's end.
    """
    optimizer = _over(nets)
    with optimizer._guard:
        optimizer._refresh()
        bad = optimizer._program.measure()
    if bad:
        raise NonFiniteError(f"check_gradients: {optimizer._diagnosis()}")
