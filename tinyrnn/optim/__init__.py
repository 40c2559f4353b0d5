"""Optimisers: PyTorch's formulas, arguments and state, one fused pass over a net's packed weights.

The core does a step without the GIL and without an allocation, with the same bits on every instruction set
that has a fused multiply-add. ``l1=`` is an addition to PyTorch: a penalty on the sum of magnitudes, whose
gradient, ``l1 * sign(w)``, is added to the weights'.
"""

from typing import TYPE_CHECKING, Any

from tinyrnn.attributes import absent_from
from tinyrnn.optim import schedules
from tinyrnn.optim.algorithms import SGD, Adagrad, Adam, AdamW, RMSprop
from tinyrnn.optim.clipping import check_gradients, clip_grad_norm, clip_grad_value
from tinyrnn.optim.optimizer import Optimizer
from tinyrnn.optim.schedules import (
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

if not TYPE_CHECKING:  # where every name would seem to exist

    def __getattr__(name: str) -> Any:
        raise absent_from(__name__, name, __all__)
