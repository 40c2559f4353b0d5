"""Groups of tensors that an optimiser trains, each with its hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyrnn._training import ARGUMENTS
from tinyrnn.arguments import check_bool, check_float
from tinyrnn.contract import Module
from tinyrnn.parameters import parameters
from tinyrnn.state_dicts import quoted
from tinyrnn.tensors import Array, Tensor

Params = Module | Sequence[Module] | Sequence[Mapping[str, Any]]


def at_least_zero(name: str, value: Any) -> float:
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


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "lr": at_least_zero,
    "momentum": at_least_zero,
    "dampening": check_float,
    "weight_decay": at_least_zero,
    "l1": at_least_zero,
    "nesterov": check_bool,
    "maximize": check_bool,
    "alpha": _part,
    "eps": at_least_zero,
    "centered": check_bool,
    "lr_decay": at_least_zero,
    "initial_accumulator_value": at_least_zero,
    "betas": _betas,
    "amsgrad": check_bool,
    "decoupled_weight_decay": check_bool,
}


@dataclass(eq=False)
class Entry:
    """One tensor of an optimiser: its place in it, its name, and the steps that were done with it."""

    tensor: Tensor
    name: str
    group: int
    steps: int = 0

    @property
    def key(self) -> tuple[int, int]:
        return id(self.tensor.core), self.tensor.param

    def shaped(self, packed: Array) -> Array:
        """Return its numbers from a flat array with the layout of the weights: a new array."""
        return self.tensor.shaped(self.tensor.core.unpack_from(self.tensor.param, packed))


def rule_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """A group's hyperparameters by the core's names."""
    given = {**options, "decoupled": options.get("decoupled_weight_decay", False)}
    given["beta1"], given["beta2"] = options.get("betas", (0.0, 0.0))
    return {name: given[name] for name in ARGUMENTS if name in given}


class Groups:
    """The groups of an optimiser.

    Parameters
    ----------
    kind : str
        The optimiser's name, for messages.
    options : tuple of str
        The optimiser's hyperparameters.
    defaults : mapping
        The hyperparameters of groups that do not give their own.
    params, net
        As `Optimizer` takes them.

    Attributes
    ----------
    dicts : list of dict
        PyTorch's ``param_groups``.
    entries : list of Entry
        The tensors, group by group.
    ordered : list of Entry
        The same in the order of the nets.
    nets : list of Module
    """

    def __init__(
        self,
        kind: str,
        options: tuple[str, ...],
        defaults: Mapping[str, Any],
        params: Params,
        net: Module | None,
    ) -> None:
        self.kind, self.options = kind, options
        self.defaults = self.checked(defaults, "")
        self.dicts: list[dict[str, Any]] = []
        self.nets: list[Module] = []
        self.entries: list[Entry] = []
        self._named = net
        for members, given in self._grouped(params):
            self._add(members, given)
        order = [id(tensor.core) for one in self.nets for _, tensor in parameters(one)]
        place = {core: i for i, core in reversed(list(enumerate(order)))}
        self.ordered = sorted(
            self.entries, key=lambda entry: (place[id(entry.tensor.core)], entry.tensor.param)
        )

    def checked(self, options: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The hyperparameters in ``options``, each checked."""
        checked = {}
        for name in self.options:
            if name not in options:
                raise ValueError(f"{self.kind}{where}: got no {name}, expected a number")
            try:
                checked[name] = CHECKS[name](name, options[name])
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self.kind}{where}: {error}") from None
        if checked.get("nesterov") and (checked["momentum"] == 0 or checked["dampening"] != 0):
            raise ValueError(
                f"{self.kind}{where}: nesterov is True, expected a momentum above 0 and dampening 0"
            )
        return checked

    def _grouped(self, params: Any) -> list[tuple[Any, Mapping[str, Any]]]:
        """Return (members, hyperparameters) of every group in ``params``."""
        if isinstance(params, Module):
            return [(params, {})]
        if isinstance(params, (str, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(f"{self.kind}: params is {type(params).__name__}, expected a net or a list")
        params = list(params)
        if not params:
            raise ValueError(f"{self.kind}: params is an empty list, expected at least one net")
        groups = [isinstance(one, Mapping) for one in params]
        if not any(groups):
            return [(params, {})]
        if not all(groups):
            raise TypeError(f"{self.kind}: params has groups and other items, expected either groups or nets")
        for i, group in enumerate(params):
            unknown = [str(name) for name in group if name not in (*self.options, "params")]
            if unknown or "params" not in group:
                what = f"unknown {quoted(unknown)}" if unknown else "no 'params'"
                expected = ", ".join(("params", *self.options))
                raise ValueError(f"{self.kind}: group {i}: got {what}, expected {expected}")
        return [(group["params"], group) for group in params]

    def _add(self, members: Any, given: Mapping[str, Any]) -> None:
        """Append a group."""
        i = len(self.dicts)
        where = f": group {i}" if given else ""
        options = self.checked({**self.defaults, **given}, where)
        found = self._members(members, where)
        if not found:
            raise ValueError(f"{self.kind}{where}: got no parameters, expected some to train")
        taken = {entry.key: entry for entry in self.entries}
        for name, tensor in found:
            entry = Entry(tensor, name, i)
            if entry.key in taken:
                raise ValueError(
                    f"{self.kind}{where}: {name} is in group {taken[entry.key].group} already, "
                    "expected each tensor in one group"
                )
            self.entries.append(entry)
        self.dicts.append({"params": [name for name, _ in found], **options})

    def _members(self, members: Any, where: str) -> list[tuple[str, Tensor]]:
        """Return (name, tensor) of all tensors in a group's ``params``, each once, in the nets' order."""
        listed = [members] if isinstance(members, (Module, str)) else list(members)
        nets = [one for one in listed if isinstance(one, Module)]
        names = [one for one in listed if isinstance(one, str)]
        if len(nets) + len(names) < len(listed) or (nets and names):
            kinds = ", ".join(sorted({type(one).__name__ for one in listed}))
            raise TypeError(f"{self.kind}{where}: params holds {kinds}, expected nets or names")
        if names and self._named is None:
            raise TypeError(
                f"{self.kind}{where}: params holds names, expected net= with them: pass the net that has them"
            )
        if names:
            assert self._named is not None
            nets = [self._named]
        self.nets += [one for one in nets if all(one is not known for known in self.nets)]
        found: dict[tuple[int, int], tuple[str, Tensor]] = {}
        for one in nets:
            for name, tensor in parameters(one):
                found.setdefault((id(tensor.core), tensor.param), (name, tensor))
        if not names:
            return list(found.values())

        def fits(tensor: str, name: str) -> bool:
            return tensor == name or tensor.startswith(name.removesuffix(".") + ".")

        known = [name for name, _ in found.values()]
        unknown = [name for name in names if not any(fits(tensor, name) for tensor in known)]
        if unknown:
            raise ValueError(
                f"{self.kind}{where}: got {quoted(unknown)}, expected parameters or layers of the net; "
                f"it has {quoted(known)}"
            )
        return [pair for pair in found.values() if any(fits(pair[0], name) for name in names)]
