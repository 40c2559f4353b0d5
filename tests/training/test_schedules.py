"""Schedules: PyTorch's rates over 200 steps, saved and gone on with, and bad arguments."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pytest
from folders import DATA
from optim_cases import EPOCHS, SCHEDULES, build_schedules, measure, run_schedules

import tinyrnn as tr

GOLDENS = DATA / "optim.npz"


def optimizer_of(case: str) -> tr.optim.Optimizer:
    kind, arguments, *_ = SCHEDULES[case]
    optimizer: tr.optim.Optimizer = getattr(tr.optim, kind)(tr.Linear(1, 1, bias=False), **arguments)
    return optimizer


@pytest.mark.parametrize("case", SCHEDULES)
def test_goldens(case: str) -> None:
    optimizer = optimizer_of(case)
    rates = run_schedules(build_schedules(tr.optim, optimizer, case), optimizer)
    with np.load(GOLDENS) as goldens:
        np.testing.assert_allclose(rates, goldens[f"rates/{case}"], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", SCHEDULES)
def test_against_torch(case: str) -> None:
    torch = pytest.importorskip("torch")
    kind, arguments, *_ = SCHEDULES[case]
    theirs = getattr(torch.optim, kind)([torch.nn.Parameter(torch.zeros(1))], **arguments)
    ours = optimizer_of(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's schedules call each other in ways that they warn of
        wanted = run_schedules(build_schedules(torch.optim.lr_scheduler, theirs, case), theirs)
    rates = run_schedules(build_schedules(tr.optim, ours, case), ours)
    np.testing.assert_allclose(rates, wanted, rtol=1e-12, atol=1e-15)


def one_step(made: list[Any], epoch: int) -> None:
    for one in made:
        if isinstance(one, tr.optim.ReduceLROnPlateau):
            one.step(measure(epoch))
        else:
            one.step()


@pytest.mark.parametrize("case", SCHEDULES)
def test_goes_on_to_the_same_bits(case: str) -> None:
    whole, first, second = (optimizer_of(case) for _ in range(3))
    schedules = [build_schedules(tr.optim, optimizer, case) for optimizer in (whole, first, second)]
    stop = 73
    for epoch in range(EPOCHS):
        one_step(schedules[0], epoch)
    for epoch in range(stop):
        one_step(schedules[1], epoch)
    second.load_state_dict(first.state_dict())
    for new, old in zip(schedules[2], schedules[1], strict=True):
        new.load_state_dict(json.loads(json.dumps(old.state_dict())))
        assert new.last_epoch == stop
        assert new.get_last_lr() == old.get_last_lr()
    for epoch in range(stop, EPOCHS):
        one_step(schedules[2], epoch)
    assert second.param_groups == whole.param_groups


@pytest.mark.parametrize(
    "case", ["step", "multistep", "cosine", "one cycle", "linear", "warm-up, cosine", "plateau"]
)
def test_loads_what_torch_saved(case: str) -> None:
    torch = pytest.importorskip("torch")
    kind, arguments, *_ = SCHEDULES[case]
    theirs = getattr(torch.optim, kind)([torch.nn.Parameter(torch.zeros(1))], **arguments)
    ours = optimizer_of(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = build_schedules(torch.optim.lr_scheduler, theirs, case)
        for epoch in range(44):
            theirs.step()
            for one in made:
                one.step(measure(epoch)) if case == "plateau" else one.step()
        mine = build_schedules(tr.optim, ours, case)
        for new, old in zip(mine, made, strict=True):
            new.load_state_dict(old.state_dict())
        ours.load_state_dict({"state": {}, "param_groups": theirs.state_dict()["param_groups"]})
        for epoch in range(44, 60):
            for one in made:
                one.step(measure(epoch)) if case == "plateau" else one.step()
            one_step(mine, epoch)
            assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


KINDS: dict[str, tuple[Any, ...]] = {
    "StepLR": (2,),
    "MultiStepLR": ([1, 3],),
    "ExponentialLR": (0.5,),
    "ConstantLR": (),
    "LinearLR": (),
    "CosineAnnealingLR": (5,),
    "OneCycleLR": (0.1, 10),
    "LambdaLR": (lambda step: 1.0,),
    "ReduceLROnPlateau": (),
}


def test_a_state_of_another_schedule() -> None:
    """Ours or PyTorch's: refused, and nothing has changed."""
    torch = pytest.importorskip("torch")
    for source, arguments in KINDS.items():
        theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
        states = (
            getattr(tr.optim, source)(tr.optim.SGD(tr.Linear(2, 1), momentum=0.9), *arguments).state_dict(),
            getattr(torch.optim.lr_scheduler, source)(theirs, *arguments).state_dict(),
        )
        for target, others in KINDS.items():
            schedule = getattr(tr.optim, target)(tr.optim.SGD(tr.Linear(2, 1), momentum=0.9), *others)
            before = schedule.state_dict()
            for state in states:
                if source == target:
                    schedule.load_state_dict(state)
                    continue
                with pytest.raises(ValueError, match=f"{target}: state_dict (has|lacks|has no) "):
                    schedule.load_state_dict(state)
                assert schedule.state_dict() == before


def test_a_count_that_is_none() -> None:
    plateau = tr.optim.ReduceLROnPlateau(tr.optim.SGD(tr.Linear(2, 1)))
    for value in ("nan", float("nan"), None, True, [1]):
        with pytest.raises((TypeError, ValueError), match="best is "):
            plateau.load_state_dict({**plateau.state_dict(), "best": value})
    cycle = tr.optim.OneCycleLR(tr.optim.Adam(tr.Linear(2, 1)), 0.1, 10)
    with pytest.raises(ValueError, match="OneCycleLR: state_dict: last_epoch is 11, expected 10 at most"):
        cycle.load_state_dict({**cycle.state_dict(), "last_epoch": 11})
    assert plateau.best == float("inf") and cycle.last_epoch == 0


def test_groups_keep_their_ratio() -> None:
    net = tr.Sequential(tr.Linear(2, 3), tr.Linear(3, 1))
    groups = [{"params": net[0], "lr": 0.1}, {"params": net[1], "lr": 0.01}]
    optimizer = tr.optim.SGD(groups)
    schedule = tr.optim.ExponentialLR(optimizer, 0.5)
    schedule.step()
    assert schedule.get_last_lr() == [0.05, 0.005]
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.005]
    tr.optim.OneCycleLR(optimizer, [0.25, 0.5], 10, cycle_momentum=False)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.02])


def test_lambda() -> None:
    optimizer = tr.optim.SGD(tr.Linear(1, 1), lr=0.5)
    schedule = tr.optim.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    rates = [optimizer.lr]
    for _ in range(3):
        schedule.step()
        rates.append(optimizer.lr)
    assert rates == [0.5, 0.25, 0.5 * (1 / 3), 0.125]
    with pytest.raises(ValueError, match="LambdaLR: lr_lambda is"):
        tr.optim.LambdaLR(optimizer, [abs, abs])


def test_one_cycle_moves_the_momentum_of_a_step() -> None:
    """Momentum that a schedule brings makes the optimiser remember."""
    net = tr.Linear(2, 1)
    optimizer = tr.optim.SGD(net, lr=0.1)
    assert optimizer.state_bytes == 0
    tr.optim.OneCycleLR(optimizer, 0.1, 10)
    net.train()
    net.backward(net(np.ones((1, 2), np.float32)))
    optimizer.step()
    assert optimizer.state_bytes > 0
    assert "momentum_buffer" in optimizer.state_dict()["state"][0]


def test_one_cycle_ends() -> None:
    optimizer = tr.optim.Adam(tr.Linear(1, 1))
    schedule = tr.optim.OneCycleLR(optimizer, 0.1, 3)
    for _ in range(3):  # as a loop does that ends each batch with a step: the last one lies beyond the cycle
        schedule.step()
    before = schedule.state_dict(), optimizer.param_groups[0].copy()
    with pytest.raises(ValueError, match="OneCycleLR: got step 4, expected at most 3"):
        schedule.step()
    assert (schedule.state_dict(), optimizer.param_groups[0]) == before


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("StepLR", {"step_size": 0}, "StepLR: step_size is 0, expected 1"),
        ("StepLR", {"step_size": 2.5}, "StepLR: step_size is 2.5, expected an integer"),
        ("StepLR", {"step_size": 2, "gamma": -1}, "StepLR: gamma is -1"),
        ("MultiStepLR", {"milestones": [3, 0]}, "MultiStepLR: milestones is 0"),
        ("ExponentialLR", {"gamma": float("nan")}, "ExponentialLR: gamma is nan"),
        ("ConstantLR", {"factor": 0}, "ConstantLR: factor is 0"),
        ("LinearLR", {"start_factor": 0}, "LinearLR: start_factor is 0"),
        ("LinearLR", {"end_factor": 2}, "LinearLR: end_factor is 2"),
        ("CosineAnnealingLR", {"T_max": -1}, "CosineAnnealingLR: T_max is -1"),
        ("OneCycleLR", {"max_lr": 1}, "OneCycleLR: expected total_steps, or epochs and steps_per_epoch"),
        ("OneCycleLR", {"max_lr": -1, "total_steps": 9}, "OneCycleLR: max_lr is -1"),
        (
            "OneCycleLR",
            {"max_lr": [1, 1], "total_steps": 9},
            "OneCycleLR: max_lr is [1, 1], expected 1 numbers",
        ),
        ("OneCycleLR", {"max_lr": 1, "total_steps": 9, "anneal_strategy": "x"}, "anneal_strategy is 'x'"),
        ("ReduceLROnPlateau", {"factor": 1}, "factor is 1, expected less"),
        ("ReduceLROnPlateau", {"mode": "least"}, "mode is 'least'"),
        ("ReduceLROnPlateau", {"threshold_mode": "x"}, "threshold_mode is 'x'"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    optimizer = tr.optim.SGD(tr.Linear(1, 1), lr=0.25)
    before = optimizer.state_dict()["param_groups"]
    with pytest.raises((TypeError, ValueError)) as error:
        getattr(tr.optim, name)(optimizer, **arguments)
    assert message in str(error.value)
    assert optimizer.state_dict()["param_groups"] == before


def test_bad_use() -> None:
    optimizer = tr.optim.Adagrad(tr.Linear(1, 1))
    with pytest.raises(TypeError, match="StepLR: optimizer is Linear, expected an Optimizer"):
        tr.optim.StepLR(tr.Linear(1, 1), 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="OneCycleLR: Adagrad has no momentum: pass cycle_momentum=False"):
        tr.optim.OneCycleLR(optimizer, 1, 9)
    one = tr.optim.StepLR(optimizer, 3)
    with pytest.raises(ValueError, match="milestones \\[3, 4\\] for 1 schedules"):
        tr.optim.SequentialLR(optimizer, [one], [3, 4])
    with pytest.raises(TypeError, match="schedulers\\[0\\] is ReduceLROnPlateau"):
        tr.optim.SequentialLR(optimizer, [tr.optim.ReduceLROnPlateau(optimizer)], [])
    with pytest.raises(ValueError, match="belongs to another optimiser"):
        tr.optim.SequentialLR(tr.optim.SGD(tr.Linear(1, 1)), [one], [])
    before = one.state_dict()
    for wrong in ({}, {**before, "last_epoch": -1}, {**before, "base_lrs": [1, 2]}, {**before, "gamma": -1}):
        with pytest.raises((TypeError, ValueError)):
            one.load_state_dict(wrong)
    assert one.state_dict() == before


def test_arguments_of_another_type_are_named() -> None:
    sgd = tr.optim.SGD(tr.Linear(1, 1), lr=0.1)
    with pytest.raises(TypeError, match="MultiStepLR: milestones is 5, expected a list"):
        tr.optim.MultiStepLR(sgd, 5)
    with pytest.raises(TypeError, match="LambdaLR: lr_lambda is 5, expected a function"):
        tr.optim.LambdaLR(sgd, 5)
    with pytest.raises(TypeError, match="LambdaLR: the factor is 'half', expected a number"):
        tr.optim.LambdaLR(sgd, lambda epoch: "half")
    plateau = tr.optim.ReduceLROnPlateau(sgd)
    with pytest.raises(TypeError, match="ReduceLROnPlateau: metrics is 'loss', expected a number"):
        plateau.step("loss")
    assert plateau.last_epoch == 0 and sgd.lr == 0.1


def test_repr() -> None:
    sgd = tr.optim.SGD(tr.Linear(1, 1), lr=0.5)
    step = tr.optim.StepLR(sgd, 2)
    step.step()
    shown = "StepLR(step_size=2, gamma=0.1, base_lrs=[0.5], last_epoch=1)"
    assert repr(step) == shown
    wrapped = tr.callbacks.LearningRateScheduler(step)
    assert repr(wrapped) == f"LearningRateScheduler(schedule={shown}, unit='epoch', monitor=None)"
    both = tr.optim.SequentialLR(sgd, [step, tr.optim.ExponentialLR(sgd, 0.9)], [4])
    assert repr(both).startswith("SequentialLR(schedulers=[StepLR(") and "milestones=[4]" in repr(both)
    cycle = tr.optim.OneCycleLR(sgd, 1.0, total_steps=8, cycle_momentum=False)
    assert repr(cycle).startswith("OneCycleLR(max_lr=[1.0], total_steps=8, ")
