"""The base of optimisers: groups, a step, and its state."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from tinyrnn._core import Guard
from tinyrnn._training import Program
from tinyrnn.arguments import Explained
from tinyrnn.attributes import Guarded, brief
from tinyrnn.contract import Module
from tinyrnn.errors import NonFiniteError
from tinyrnn.optim import pytorch
from tinyrnn.optim.groups import Entry, Groups, Params, at_least_zero, rule_of
from tinyrnn.optim.moments import Moments
from tinyrnn.parameters import trainable

# The ways to treat a gradient that is not finite.
_NONFINITE = ("stop", "skip", "warn")


class Optimizer(Explained, Guarded, ABC):
    """The base of all optimisers.

    Parameters
    ----------
    params : Net, list of Net, or list of dict
        The nets whose parameters are trained, each once. Or groups with hyperparameters of their own, as in
        PyTorch: ``{"params": net["0"], "lr": 1e-4}``; the others are those given for all. A group's
        ``"params"`` are a net (every layer is one), a list of nets, or names of tensors and layers of
        ``net``: ``{"params": ["0", "2.bias"]}``.
    options : dict
        Hyperparameters by name. Names that the optimiser does not have are ignored, so that a constructor can
        pass all of its arguments. All have ``maximize`` and ``l1``, a penalty on magnitudes that adds
        ``l1 * sign(w)`` to the gradient.
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
    _settled: ClassVar[dict[str, Any]] = {}  # hyperparameters that no loaded state changes
    _torch: ClassVar[tuple[str, ...]] = ("foreach", "differentiable", "fused")

    def __init__(self, params: Params, options: dict[str, Any], net: Module | None) -> None:
        self._name = type(self).__name__
        self._guard = Guard(
            f"{self._name}: in use by another thread, expected one at a time; give each thread a net and an "
            "optimizer of its own"
        )
        self.skipped = 0
        self._groups = Groups(self._name, self._options, options, params, net)
        self.defaults, self.param_groups = self._groups.defaults, self._groups.dicts
        self._moments = Moments(self._groups)
        self._program = Program(len(self.param_groups))
        self._values: list[tuple[Any, ...] | None] = [None] * len(self.param_groups)
        self._uses: list[tuple[bool, ...]] = [()] * len(self.param_groups)
        self._versions: list[int] | None = None  # of the nets, when the program was compiled
        self._laid: list[Entry] = []
        self._idle: list[Entry] = []  # frozen
        self._refresh()

    def _refusal(self, name: str, value: Any) -> AttributeError:
        if name in self._options:
            return AttributeError(
                f"{self._name}.{name}: hyperparameters are set in a group, "
                f'optimizer.param_groups[0]["{name}"] = {brief(value)}'
            )
        return super()._refusal(name, value)

    @property
    def lr(self) -> float:
        """The learning rate of the first group. To set it sets that of all groups."""
        rate: float = self.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        rate = at_least_zero(f"{self._name}: lr", value)
        for group in self.param_groups:
            group["lr"] = rate

    @property
    def state_bytes(self) -> int:
        """Bytes of the optimiser's states."""
        return self._moments.nbytes

    def __repr__(self) -> str:
        groups = [
            ", ".join(f"{name}={group[name]!r}" for name in self._options) for group in self.param_groups
        ]
        counts = [len(group["params"]) for group in self.param_groups]
        rows = "".join(f"\n  ({n} tensors) {text}" for n, text in zip(counts, groups, strict=True))
        return f"{self._name}({rows}\n)"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self._name}: cannot be copied or pickled, as it points into its nets: make another for the "
            "copied net, and give it this one's state_dict()"
        )

    # ---- a step ----------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Update the program from `param_groups` and the frozen tensors."""
        groups = self.param_groups
        if len(groups) != len(self._values):
            raise ValueError(
                f"{self._name}: param_groups has {len(groups)} groups, expected {len(self._values)}, as at "
                "first: make another optimizer for other groups"
            )
        values = [tuple(map(group.get, self._options)) for group in groups]
        versions = [net._versions() for net in self._groups.nets]
        if values == self._values and versions == self._versions:
            return
        changed = {
            i: self._groups.checked(group, f": group {i}" if len(groups) > 1 else "")
            for i, group in enumerate(groups)
            if values[i] != self._values[i]
        }
        uses = list(self._uses)
        for i, options in changed.items():
            uses[i] = self._program.set_rule(i, self._kind, rule_of(options))
            self._values[i] = values[i]
        if uses != self._uses or versions != self._versions:
            self._uses, self._versions = uses, versions
            self._lay()

    def _count(self) -> None:
        """Copy the steps that the program has counted to the entries."""
        for entry, steps in zip(self._laid, self._program.steps(), strict=True):
            entry.steps = steps

    def _lay(self) -> None:
        """Compile the tensors that are not frozen, with the states that their rules need."""
        self._count()
        active: set[tuple[int, int]] = set()
        for net in self._groups.nets:
            active |= {(id(tensor.core), tensor.param) for _, tensor in trainable(net)}
        self._laid = [entry for entry in self._groups.ordered if entry.key in active]
        self._idle = [entry for entry in self._groups.ordered if entry.key not in active]
        tensors = []
        for entry in self._laid:
            core = entry.tensor.core
            states = [
                self._moments.needed(entry, i) if used else None
                for i, used in enumerate(self._uses[entry.group])
            ]
            tensors.append((core, entry.tensor.param, states, entry.group, entry.steps))
        self._program.lay(tensors)

    def step(self, nonfinite: str = "stop") -> bool:
        """Update the weights from the gradients.

        A tensor without a gradient, because there was no ``backward`` since `zero_grad`, is skipped as in
        PyTorch: no decay, no momentum, no count of steps.

        Parameters
        ----------
        nonfinite : {"stop", "skip", "warn"}
            The treatment of a gradient with a NaN or an infinity. Weights and states do not change in any
            case. ``"stop"``: raise. ``"skip"``: skip this step and count it in `skipped`. ``"warn"``: the
            same, with a `RuntimeWarning`.

        Returns
        -------
        bool
            True if the step was done.

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
        """Raise, warn or count, after the program has found a gradient that is not finite.

        ``cause`` is the known reason, if any.
        """
        if nonfinite == "stop":
            raise NonFiniteError(f"{self._name}: {self._diagnosis()}{cause} The weights are as before.")
        self.skipped += 1
        if nonfinite == "warn":
            message = f"{self._name}: {self._diagnosis()}{cause} This step is left out."
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def _diagnosis(self) -> str:
        """Name the tensor where the gradients went wrong: the last bad one, as backward begins at the end."""
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
        """Set the gradients to zero; a `step` skips them until there is a ``backward``."""
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

    # ---- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimiser, in PyTorch's structure, as copies.

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
            return pytorch.written(self._groups, self._moments, self._kind, self._uses, self._torch)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`, or of PyTorch's optimiser of the same parameters in the same order.

        As in PyTorch the hyperparameters are loaded, too; but an `AdamW` that loads an Adam's state stays an
        `AdamW`. Training continues with the same bits as without the pause.

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
            saved = pytorch.read(self._groups, self._kind, state_dict, self._settled)
            for group, values in zip(self.param_groups, saved.groups, strict=True):
                group.update(values)
            self._moments.clear()
            self._laid = []  # their steps are those that are loaded
            for entry, steps, arrays in saved.states:
                entry.steps = steps
                for i, array in arrays.items():
                    buffer = self._moments.needed(entry, i)
                    entry.tensor.core.pack_into(entry.tensor.param, buffer, entry.tensor.unshaped(array))
            self._versions = None
            self._program.lay([])
            self._refresh()


def check_nonfinite(nonfinite: str) -> None:
    """Raise ValueError unless it is one of the ways to go on that `Optimizer.step` knows."""
    if nonfinite not in _NONFINITE:
        raise ValueError(f"nonfinite is {nonfinite!r}, expected one of {', '.join(_NONFINITE)}")
