"""Schedules of the learning rate: PyTorch's formulas, arguments and defaults.

A schedule sets the rate of its first step when it is made and of each next one by ``step()``, called after
the optimiser's. A warm-up is a `LinearLR`, followed by another schedule in a `SequentialLR` or beside one.
All work on Python floats, as PyTorch's do.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tinyrnn.arguments import Explained, check_bool, check_float, check_int, check_number, check_size
from tinyrnn.optim.optimizer import Optimizer

Rates = float | Sequence[float]


class LRScheduler(Explained, ABC):
    """The base of all schedules.

    Parameters
    ----------
    optimizer : Optimizer
        The optimiser whose rates it sets, group by group.

    Attributes
    ----------
    last_epoch : int
        The number of steps so far.
    base_lrs : list of float
        The groups' rates before any schedule.
    """

    # The arguments that a state_dict holds; `_set` checks and takes them. `_telling`: the arguments of
    # PyTorch's state_dict where they differ.
    _options: ClassVar[tuple[str, ...]] = ()
    _telling: ClassVar[tuple[str, ...] | None] = None

    last_epoch: int
    _last_lr: list[float]

    def __init__(self, optimizer: Optimizer, **options: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: optimizer is {type(optimizer).__name__}, expected an Optimizer"
            )
        self.optimizer = optimizer
        self._set(**options)
        self._prepare()
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._begin([group["lr"] for group in optimizer.param_groups])

    @abstractmethod
    def _set(self, *unused: Any, **options: Any) -> None:
        """Check the arguments and keep them."""

    def _prepare(self) -> None:
        """Prepare the groups further before the first step."""

    def _first(self, lr: float, group: dict[str, Any]) -> float:
        """The first step's rate, from the group's rate."""
        return lr

    @abstractmethod
    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        """The rate of step `last_epoch` (1, 2, ...), from the one before."""

    def _begin(self, rates: list[float]) -> None:
        """Set the rates of the first step."""
        self.last_epoch = 0
        groups = self.optimizer.param_groups
        self._take([self._first(lr, group) for lr, group in zip(rates, groups, strict=True)])

    def _take(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def step(self) -> None:
        """Set the rates of the next step."""
        self.last_epoch += 1
        groups = self.optimizer.param_groups
        try:
            rates = [
                self._next(group["lr"], base, group)
                for group, base in zip(groups, self.base_lrs, strict=True)
            ]
        except ValueError:
            self.last_epoch -= 1
            raise
        self._take(rates)

    def get_last_lr(self) -> list[float]:
        """The rates that were last set, a number for each group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers that the schedule needs to continue. The rates are in the optimiser's state."""
        names = (*self._options, *self._counters())
        return {name: copy.copy(getattr(self, name)) for name in names}

    def _counters(self) -> dict[str, Callable[[str, Any], Any]]:
        """The numbers that change from step to step, each with its check."""
        return {"last_epoch": _epoch, "base_lrs": self._rates, "_last_lr": self._rates}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`, or of PyTorch's schedule of the same name.

        Load the optimiser's as well.

        Raises
        ------
        TypeError, ValueError
            If it does not fit; nothing has changed then.
        """
        self.__dict__.update(self._loaded(state_dict).__dict__)

    def _loaded(self, state_dict: Mapping[str, Any]) -> LRScheduler:
        """A copy of the schedule with the loaded state."""
        what = f"{type(self).__name__}: state_dict"
        if not isinstance(state_dict, Mapping) or "last_epoch" not in state_dict:
            raise ValueError(f"{what} has no 'last_epoch', expected the state of a {type(self).__name__}")
        self._check_kind(state_dict, what)
        other = copy.copy(self)
        other._set(**{name: state_dict.get(name, getattr(self, name)) for name in self._options})
        for name, check in self._counters().items():
            setattr(other, name, check(f"{what}: {name}", state_dict.get(name, getattr(self, name))))
        return other

    def _check_kind(self, state_dict: Mapping[str, Any], what: str) -> None:
        """Raise an error if it is another schedule's."""
        others = {name for kind in LRScheduler.__subclasses__() for name in kind._telling or kind._options}
        telling = self._options if self._telling is None else self._telling
        foreign = [name for name in state_dict if name in others and name not in (*self._options, *telling)]
        missing = [name for name in telling if name not in state_dict]
        if foreign or missing:
            text = [f"has {', '.join(foreign)}"] if foreign else []
            text += [f"lacks {', '.join(missing)}"] if missing else []
            raise ValueError(f"{what} {' and '.join(text)}: expected the state of a {type(self).__name__}")

    def _spread(self, value: Any) -> list[Any]:
        """Return a value for each group, from a list of them or from one for all."""
        return list(value) if isinstance(value, Sequence) else [value] * len(self.optimizer.param_groups)

    def _rates(self, name: str, value: Any) -> list[float]:
        """Return a rate for each group."""
        groups = len(self.optimizer.param_groups)
        if not isinstance(value, (list, tuple)) or len(value) != groups:
            raise ValueError(f"{name} is {value!r}, expected {groups} numbers, one for each group")
        return [check_float(name, one) for one in value]


def _epoch(name: str, value: Any) -> int:
    return check_int(name, value, 0, 2**62)


class StepLR(LRScheduler):
    """The rate times ``gamma`` every ``step_size`` steps."""

    _options = ("step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer, step_size=step_size, gamma=gamma)

    def _set(self, step_size: Any, gamma: Any) -> None:
        self.step_size = check_size("StepLR: step_size", step_size)
        self.gamma = check_float("StepLR: gamma", gamma, 0)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        return lr * self.gamma if self.last_epoch % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """The rate times ``gamma`` at each of the ``milestones``; times its square at one that is there twice."""

    _options = ("milestones", "gamma")

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1) -> None:
        super().__init__(optimizer, milestones=milestones, gamma=gamma)

    def _set(self, milestones: Any, gamma: Any) -> None:
        if isinstance(milestones, Mapping):  # PyTorch keeps a Counter
            milestones = [step for step, times in milestones.items() for _ in range(times)]
        if not isinstance(milestones, Iterable):
            raise TypeError(f"MultiStepLR: milestones is {milestones!r}, expected a list of integers")
        self.milestones = sorted(check_size("MultiStepLR: milestones", step) for step in milestones)
        self.gamma = check_float("MultiStepLR: gamma", gamma, 0)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        return lr * float(self.gamma ** self.milestones.count(self.last_epoch))


class ExponentialLR(LRScheduler):
    """The rate times ``gamma`` every step."""

    _options = ("gamma",)

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        super().__init__(optimizer, gamma=gamma)

    def _set(self, gamma: Any) -> None:
        self.gamma = check_float("ExponentialLR: gamma", gamma, 0)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        return lr * self.gamma


class ConstantLR(LRScheduler):
    """The rate times ``factor`` for the first ``total_iters`` steps."""

    _options = ("factor", "total_iters")

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5) -> None:
        super().__init__(optimizer, factor=factor, total_iters=total_iters)

    def _set(self, factor: Any, total_iters: Any) -> None:
        self.factor = check_float("ConstantLR: factor", factor, 0, 1)
        if self.factor == 0:
            raise ValueError("ConstantLR: factor is 0, expected more: no rate comes back from 0")
        self.total_iters = check_size("ConstantLR: total_iters", total_iters)

    def _first(self, lr: float, group: dict[str, Any]) -> float:
        return lr * self.factor

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        return lr * (1.0 / self.factor) if self.last_epoch == self.total_iters else lr


class LinearLR(LRScheduler):
    """A warm-up: from ``start_factor`` to ``end_factor`` times the rate in ``total_iters`` even steps."""

    _options = ("start_factor", "end_factor", "total_iters")

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        super().__init__(optimizer, start_factor=start_factor, end_factor=end_factor, total_iters=total_iters)

    def _set(self, start_factor: Any, end_factor: Any, total_iters: Any) -> None:
        self.start_factor = check_float("LinearLR: start_factor", start_factor, 0, 1)
        if self.start_factor == 0:
            raise ValueError("LinearLR: start_factor is 0, expected more: the next rate is a multiple of it")
        self.end_factor = check_float("LinearLR: end_factor", end_factor, 0, 1)
        self.total_iters = check_size("LinearLR: total_iters", total_iters)

    def _first(self, lr: float, group: dict[str, Any]) -> float:
        return lr * self.start_factor

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        if self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        return lr * (1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))


class CosineAnnealingLR(LRScheduler):
    """A rate that falls to ``eta_min`` along half a cosine of ``T_max`` steps; more steps raise it again."""

    _options = ("T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer, T_max=T_max, eta_min=eta_min)

    def _set(self, T_max: Any, eta_min: Any) -> None:
        self.T_max = check_size("CosineAnnealingLR: T_max", T_max)
        self.eta_min = check_float("CosineAnnealingLR: eta_min", eta_min, 0)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        low, turn = self.eta_min, math.pi / self.T_max
        bottom = (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0
        if bottom:  # a ratio would be 0 / 0
            return lr + (base - low) * (1 - math.cos(turn)) / 2
        ratio = (1 + math.cos(turn * self.last_epoch)) / (1 + math.cos(turn * (self.last_epoch - 1)))
        return ratio * (lr - low) + low


class LambdaLR(LRScheduler):
    """The base rate times a function of the step's number. A state_dict holds no functions."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        super().__init__(optimizer, lr_lambda=lr_lambda)

    def _set(self, **options: Any) -> None:
        if not options:
            return
        given, groups = options["lr_lambda"], len(self.optimizer.param_groups)
        if not callable(given) and not isinstance(given, (list, tuple)):
            raise TypeError(f"LambdaLR: lr_lambda is {given!r}, expected a function or {groups} of them")
        self.lr_lambdas = self._spread(given)
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ValueError(f"LambdaLR: lr_lambda is {given!r}, expected a function or {groups} of them")

    def _first(self, lr: float, group: dict[str, Any]) -> float:
        return self._next(lr, lr, group)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        place = next(i for i, one in enumerate(self.optimizer.param_groups) if one is group)
        factor = check_float("LambdaLR: the factor", self.lr_lambdas[place](self.last_epoch))
        return check_float("LambdaLR: the rate", group["initial_lr"] * factor, 0)


class OneCycleLR(LRScheduler):
    """One cycle of the rate, up to ``max_lr`` and far down; momentum or ``betas[0]`` changes inversely.

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float, or a list of one for each group
    total_steps : int, optional
        Or ``epochs`` times ``steps_per_epoch``. One more step is an error.
    pct_start : float
        The fraction of the steps in which the rate rises.
    anneal_strategy : {"cos", "linear"}
    cycle_momentum, base_momentum, max_momentum, div_factor, final_div_factor, three_phase
        As in PyTorch. The first rate is ``max_lr / div_factor``, the last one that over ``final_div_factor``.
    """

    _options = ("total_steps", "pct_start", "anneal_strategy", "cycle_momentum", "three_phase")
    _telling = ("total_steps",)

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Rates,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Rates = 0.85,
        max_momentum: Rates = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = check_size("OneCycleLR: epochs", epochs) * check_size(
                "OneCycleLR: steps_per_epoch", steps_per_epoch
            )
        self._bounds: dict[str, Any] = {
            "max_lr": max_lr,
            "base_momentum": base_momentum,
            "max_momentum": max_momentum,
            "div_factor": check_float("OneCycleLR: div_factor", div_factor, 1e-300),
            "final_div_factor": check_float("OneCycleLR: final_div_factor", final_div_factor, 1e-300),
        }
        super().__init__(
            optimizer,
            total_steps=total_steps,
            pct_start=pct_start,
            anneal_strategy=anneal_strategy,
            cycle_momentum=cycle_momentum,
            three_phase=three_phase,
        )

    def _set(
        self, total_steps: Any, pct_start: Any, anneal_strategy: Any, cycle_momentum: Any, three_phase: Any
    ) -> None:
        self.total_steps = check_size("OneCycleLR: total_steps", total_steps)
        self.pct_start = check_float("OneCycleLR: pct_start", pct_start, 0, 1)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"OneCycleLR: anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'"
            )
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = check_bool("OneCycleLR: cycle_momentum", cycle_momentum)
        self.three_phase = check_bool("OneCycleLR: three_phase", three_phase)
        options = self.optimizer.defaults
        if self.cycle_momentum and not {"momentum", "betas"} & set(options):
            raise ValueError(
                f"OneCycleLR: {type(self.optimizer).__name__} has no momentum: pass cycle_momentum=False"
            )

    def _prepare(self) -> None:
        groups = self.optimizer.param_groups
        highest, lowest, largest = (
            self._rates(f"OneCycleLR: {name}", self._spread(self._bounds[name]))
            for name in ("max_lr", "base_momentum", "max_momentum")
        )
        for group, rate, low, high in zip(groups, highest, lowest, largest, strict=True):
            first = check_float("OneCycleLR: max_lr", rate, 0) / self._bounds["div_factor"]
            group |= {
                "initial_lr": first,
                "max_lr": rate,
                "min_lr": first / self._bounds["final_div_factor"],
            }
            if self.cycle_momentum:
                group |= {"max_momentum": high, "base_momentum": low}

    def _arguments(self) -> dict[str, Any]:
        return {"max_lr": [group["max_lr"] for group in self.optimizer.param_groups]} | super()._arguments()

    def _first(self, lr: float, group: dict[str, Any]) -> float:
        return self._next(lr, lr, group)

    def _loaded(self, state_dict: Mapping[str, Any]) -> LRScheduler:
        other = super()._loaded(state_dict)
        assert isinstance(other, OneCycleLR)
        if other.last_epoch > other.total_steps:
            raise ValueError(
                f"OneCycleLR: state_dict: last_epoch is {other.last_epoch}, expected "
                f"{other.total_steps} at most"
            )
        return other

    def _phases(self) -> list[tuple[float, str, str, str, str]]:
        """(last step, rate from, rate to, momentum from, momentum to) of each."""
        rise, end = self.pct_start * self.total_steps, self.total_steps - 1.0
        up = (rise - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not self.three_phase:
            return [up, (end, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        down = (2 * rise - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum")
        return [up, down, (end, "initial_lr", "min_lr", "max_momentum", "max_momentum")]

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        """The rate of step `last_epoch`; sets the group's momentum."""
        if self.last_epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: got step {self.last_epoch}, expected at most {self.total_steps}")
        phases = self._phases()
        now = next((i for i, phase in enumerate(phases) if self.last_epoch <= phase[0]), len(phases) - 1)
        begin = phases[now - 1][0] if now > 0 else 0.0
        end, lr_from, lr_to, momentum_from, momentum_to = phases[now]
        part = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0
        if self.cycle_momentum:
            momentum = self._between(group[momentum_from], group[momentum_to], part)
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum
        return self._between(group[lr_from], group[lr_to], part)


class SequentialLR(LRScheduler):
    """Schedules one after the other: the next one begins at each of the ``milestones``.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : list of LRScheduler
        Of this optimiser; no `ReduceLROnPlateau`.
    milestones : list of int
        Rising, one fewer than schedules: the step at which the second one begins, the third one, ...
    """

    _telling = ("_schedulers",)

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        super().__init__(optimizer, schedulers=schedulers, milestones=milestones)

    def _set(self, **options: Any) -> None:
        if not options:
            return
        self._schedulers = list(options["schedulers"])
        for i, one in enumerate(self._schedulers):
            if not isinstance(one, LRScheduler) or isinstance(one, (SequentialLR, ReduceLROnPlateau)):
                raise TypeError(f"SequentialLR: schedulers[{i}] is {type(one).__name__}, expected a schedule")
            if one.optimizer is not self.optimizer:
                raise ValueError(
                    f"SequentialLR: schedulers[{i}] belongs to another optimiser, expected the same for all"
                )
        steps = [check_size("SequentialLR: milestones", step) for step in options["milestones"]]
        if not self._schedulers or len(steps) != len(self._schedulers) - 1 or sorted(set(steps)) != steps:
            raise ValueError(
                f"SequentialLR: got milestones {steps} for {len(self._schedulers)} schedules, expected one "
                "fewer, rising"
            )
        self._milestones = steps

    def _arguments(self) -> dict[str, Any]:
        return {"schedulers": self._schedulers, "milestones": self._milestones} | super()._arguments()

    def _begin(self, rates: list[float]) -> None:
        self.last_epoch = 0
        self._schedulers[0]._begin(self.base_lrs)
        self._last_lr = self._schedulers[0].get_last_lr()

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        raise AssertionError("SequentialLR has no rate of its own")

    def step(self) -> None:
        """Set the rates of the next step."""
        at = self.last_epoch + 1
        now = bisect_right(self._milestones, at)
        if now > 0 and self._milestones[now - 1] == at:
            self._schedulers[now]._begin(self._schedulers[now].base_lrs)
        else:
            self._schedulers[now].step()
        self.last_epoch = at
        self._last_lr = self._schedulers[now].get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers that the schedules need to continue."""
        inner = [one.state_dict() for one in self._schedulers]
        return super().state_dict() | {"_schedulers": inner}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state of `state_dict`; after an error nothing has changed."""
        other = self._loaded(state_dict)
        inner = state_dict.get("_schedulers")
        if not isinstance(inner, (list, tuple)) or len(inner) != len(self._schedulers):
            raise ValueError(
                f"SequentialLR: state_dict: expected _schedulers, {len(self._schedulers)} of them"
            )
        loaded = [one._loaded(state) for one, state in zip(self._schedulers, inner, strict=True)]
        for one, state in zip(self._schedulers, loaded, strict=True):
            one.__dict__.update(state.__dict__)
        self.last_epoch, self._last_lr, self.base_lrs = other.last_epoch, other._last_lr, other.base_lrs


class ReduceLROnPlateau(LRScheduler):
    """The rate times ``factor`` when a measure has not improved for more than ``patience`` steps.

    Parameters
    ----------
    optimizer : Optimizer
    mode : {"min", "max"}
        ``"min"`` if less is better, ``"max"`` if more is.
    factor, patience, threshold, threshold_mode, cooldown, eps
        As in PyTorch.
    min_lr : float, or a list of one for each group
    """

    _options = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lrs", "eps")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: Rates = 0,
        eps: float = 1e-8,
    ) -> None:
        self.num_bad_epochs = self.cooldown_counter = 0
        super().__init__(
            optimizer,
            mode=mode,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode=threshold_mode,
            cooldown=cooldown,
            min_lrs=min_lr,
            eps=eps,
        )
        self.best = math.inf if self.mode == "min" else -math.inf

    def _set(self, mode: Any, threshold_mode: Any, min_lrs: Any, **options: Any) -> None:
        name = "ReduceLROnPlateau"
        if mode not in ("min", "max"):
            raise ValueError(f"{name}: mode is {mode!r}, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"{name}: threshold_mode is {threshold_mode!r}, expected 'rel' or 'abs'")
        self.mode, self.threshold_mode = mode, threshold_mode
        self.factor = check_float(f"{name}: factor", options["factor"], 0, 1)
        if self.factor == 1:
            raise ValueError(f"{name}: factor is 1, expected less")
        self.patience = check_int(f"{name}: patience", options["patience"], 0, 2**62)
        self.threshold = check_float(f"{name}: threshold", options["threshold"])
        self.cooldown = check_int(f"{name}: cooldown", options["cooldown"], 0, 2**62)
        self.min_lrs = self._rates(f"{name}: min_lr", self._spread(min_lrs))
        self.eps = check_float(f"{name}: eps", options["eps"], 0)

    def _counters(self) -> dict[str, Callable[[str, Any], Any]]:
        return super()._counters() | {
            "best": check_number,
            "num_bad_epochs": _epoch,
            "cooldown_counter": _epoch,
        }

    def _better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * value > sign * self.best * (1 + sign * self.threshold)
        return sign * value > sign * (self.best + sign * self.threshold)

    def _next(self, lr: float, base: float, group: dict[str, Any]) -> float:
        raise AssertionError("ReduceLROnPlateau steps by a measure")

    def step(self, metrics: float) -> None:  # type: ignore[override]
        """Set the rates of the next step from a measure, such as the validation loss."""
        try:
            value = float(metrics)
        except (TypeError, ValueError):
            raise TypeError(f"ReduceLROnPlateau: metrics is {metrics!r}, expected a number") from None
        self.last_epoch += 1
        if self._better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lr = max(group["lr"] * self.factor, least)
                group["lr"] = lr if group["lr"] - lr > self.eps else group["lr"]
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
