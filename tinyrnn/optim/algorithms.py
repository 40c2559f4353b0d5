"""PyTorch's optimisers; their formulas are in csrc/optim/."""

from __future__ import annotations

from typing import Any, ClassVar

from tinyrnn.contract import Module
from tinyrnn.optim.groups import Params
from tinyrnn.optim.optimizer import Optimizer


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
        net: Module | None = None,
    ) -> None:
        super().__init__(params, locals(), net)


class RMSprop(Optimizer):
    """Steps divided by a moving root mean square of the gradient.

    ``v = alpha v + (1 - alpha) g²``, ``w -= lr g / (sqrt(v) + eps)``; ``centered`` takes the variance, ``v``
    less the square of a moving mean; with ``momentum`` the quotients go through a buffer. As
    `torch.optim.RMSprop`, but a variance that is negative by rounding is 0 here and a NaN there.

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
        net: Module | None = None,
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
        net: Module | None = None,
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
        net: Module | None = None,
    ) -> None:
        super().__init__(params, locals(), net)


class AdamW(Adam):
    """`Adam` with a weight decay past the moments, ``w *= 1 - lr weight_decay``. As `torch.optim.AdamW`.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, amsgrad, maximize, l1, net
        As `Adam` takes them; a weight decay of 0.01 unless given.
    """

    _settled: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True}  # an Adam's state is taken, too

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
        net: Module | None = None,
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
