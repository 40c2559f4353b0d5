"""Cases, gradients and groups that test_optim.py and test_schedules.py train and record_optim.py records."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

STEPS = 50
EPOCHS = 200

# PyTorch's names and shapes of Sequential(LSTM(3, 5), LayerNorm(5), Linear(5, 2)).
SHAPES = {
    "0.weight_ih_l0": (20, 3),
    "0.weight_hh_l0": (20, 5),
    "0.bias_ih_l0": (20,),
    "0.bias_hh_l0": (20,),
    "1.weight": (5,),
    "1.bias": (5,),
    "2.weight": (2, 5),
    "2.bias": (2,),
}

# name: (optimiser, arguments that PyTorch has too)
OPTIMISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "sgd momentum": ("SGD", {"lr": 0.05, "momentum": 0.9}),
    "sgd dampening": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}),
    "sgd nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    "sgd maximize": ("SGD", {"lr": 0.05, "momentum": 0.8, "maximize": True, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop decay": ("RMSprop", {"lr": 0.02, "alpha": 0.9, "weight_decay": 0.1}),
    "rmsprop momentum": ("RMSprop", {"momentum": 0.5, "maximize": True}),
    "rmsprop centered": ("RMSprop", {"centered": True, "eps": 1e-4}),
    "rmsprop all": ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.01}),
    "adagrad": ("Adagrad", {}),
    "adagrad all": (
        "Adagrad",
        {
            "lr": 0.1,
            "lr_decay": 0.1,
            "weight_decay": 0.1,
            "initial_accumulator_value": 0.25,
            "eps": 1e-3,
            "maximize": True,
        },
    ),
    "adam": ("Adam", {}),
    "adam betas": ("Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}),
    "adam decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "adam amsgrad": ("Adam", {"lr": 0.01, "betas": (0.9, 0.5), "amsgrad": True}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw all": ("AdamW", {"lr": 0.02, "weight_decay": 0.5, "amsgrad": True, "betas": (0.0, 0.9)}),
}

# name: (optimiser, its arguments, [(schedule, arguments), ...], milestones if one after the other)
SCHEDULES: dict[str, tuple[str, dict[str, Any], list[tuple[str, dict[str, Any]]], list[int] | None]] = {
    "step": ("SGD", {"lr": 0.5}, [("StepLR", {"step_size": 7, "gamma": 0.5})], None),
    "step default": ("SGD", {"lr": 0.5}, [("StepLR", {"step_size": 30})], None),
    "multistep": (
        "SGD",
        {"lr": 0.5},
        [("MultiStepLR", {"milestones": [5, 90, 90, 150], "gamma": 0.3})],
        None,
    ),
    "exponential": ("SGD", {"lr": 0.5}, [("ExponentialLR", {"gamma": 0.97})], None),
    "constant": ("SGD", {"lr": 0.5}, [("ConstantLR", {"factor": 0.25, "total_iters": 12})], None),
    "linear default": ("SGD", {"lr": 0.5}, [("LinearLR", {})], None),
    "linear": (
        "SGD",
        {"lr": 0.5},
        [("LinearLR", {"start_factor": 0.01, "end_factor": 0.5, "total_iters": 40})],
        None,
    ),
    "cosine": ("SGD", {"lr": 0.5}, [("CosineAnnealingLR", {"T_max": 200, "eta_min": 0.01})], None),
    "cosine again": ("SGD", {"lr": 0.5}, [("CosineAnnealingLR", {"T_max": 30})], None),
    "one cycle": ("Adam", {}, [("OneCycleLR", {"max_lr": 0.1, "total_steps": 201})], None),
    "one cycle linear": (
        "SGD",
        {"lr": 0.5, "momentum": 0.9},
        [
            (
                "OneCycleLR",
                {
                    "max_lr": 0.1,
                    "epochs": 3,
                    "steps_per_epoch": 67,
                    "anneal_strategy": "linear",
                    "pct_start": 0.4,
                    "base_momentum": 0.7,
                    "max_momentum": 0.8,
                    "div_factor": 10.0,
                    "final_div_factor": 100.0,
                },
            )
        ],
        None,
    ),
    "one cycle of three": (
        "Adagrad",
        {},
        [("OneCycleLR", {"max_lr": 0.1, "total_steps": 201, "three_phase": True, "cycle_momentum": False})],
        None,
    ),
    "beside each other": (
        "SGD",
        {"lr": 0.5},
        [("LinearLR", {"total_iters": 20}), ("ExponentialLR", {"gamma": 0.99})],
        None,
    ),
    "warm-up, cosine": (
        "SGD",
        {"lr": 0.5},
        [("LinearLR", {"start_factor": 0.1, "total_iters": 20}), ("CosineAnnealingLR", {"T_max": 150})],
        [20],
    ),
    "three": (
        "SGD",
        {"lr": 0.5},
        [
            ("ConstantLR", {"total_iters": 50}),
            ("StepLR", {"step_size": 9}),
            ("LinearLR", {"total_iters": 30, "start_factor": 0.2}),
        ],
        [10, 60],
    ),
    "plateau": ("SGD", {"lr": 0.5}, [("ReduceLROnPlateau", {})], None),
    "plateau all": (
        "SGD",
        {"lr": 0.5},
        [
            (
                "ReduceLROnPlateau",
                {
                    "mode": "max",
                    "factor": 0.7,
                    "patience": 2,
                    "threshold": 0.05,
                    "threshold_mode": "abs",
                    "cooldown": 3,
                    "min_lr": 0.01,
                    "eps": 1e-4,
                },
            )
        ],
        None,
    ),
}


def rng(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def weights() -> dict[str, np.ndarray]:
    """The weights before training."""
    return {name: rng(name).uniform(-0.5, 0.5, shape).astype(np.float32) for name, shape in SHAPES.items()}


def gradients(step: int) -> dict[str, np.ndarray]:
    """The gradients of a step, of magnitudes from 0.001 to 1."""
    return {name: array.copy() for name, array in _gradients(step).items()}


@cache
def _gradients(step: int) -> dict[str, np.ndarray]:
    return {
        name: (rng(f"{name} {step}").standard_normal(shape) * 10.0 ** -(step % 4)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def flat(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """All numbers, one array after the other."""
    return np.concatenate([array.reshape(-1) for array in arrays])


def measure(epoch: int) -> float:
    """A validation loss that falls, stays and rises."""
    return float(1 / (1 + epoch % 60) + 0.2 * rng(f"loss {epoch}").uniform())


def run_schedules(made: list[Any], optimizer: Any) -> np.ndarray:
    """(EPOCHS + 1, 2): rate and momentum before each step."""
    rows = []
    for epoch in range(EPOCHS + 1):
        group = optimizer.param_groups[0]
        rows.append((float(group["lr"]), float(group.get("betas", [group.get("momentum", 0)])[0])))
        if epoch < EPOCHS:
            optimizer.step()
            for one in made:
                if type(one).__name__ == "ReduceLROnPlateau":
                    one.step(measure(epoch))
                else:
                    one.step()
    return np.array(rows)


def build_schedules(module: Any, optimizer: Any, case: str) -> list[Any]:
    """The schedules of a case, as ``module`` has them."""
    _, _, listed, milestones = SCHEDULES[case]
    made = [getattr(module, name)(optimizer, **arguments) for name, arguments in listed]
    return made if milestones is None else [module.SequentialLR(optimizer, made, milestones)]
