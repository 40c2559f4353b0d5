"""Gradients clipped and checked outside a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyrnn.contract import Module
from tinyrnn.errors import NonFiniteError
from tinyrnn.optim.algorithms import SGD
from tinyrnn.optim.groups import at_least_zero
from tinyrnn.optim.optimizer import Optimizer

Gradients = Optimizer | Module | Sequence[Module]


def _over(what: Gradients) -> Optimizer:
    """Return an optimiser without states over these gradients; hold its guard, and refresh it."""
    if isinstance(what, Optimizer):
        return what
    if not isinstance(what, (Module, Sequence)):
        raise TypeError(f"nets is {type(what).__name__}, expected a net, a list of nets, or an optimiser")
    return SGD(what, lr=0)


def clip_grad_norm(nets: Gradients, max_norm: float) -> float:
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
    limit = at_least_zero("clip_grad_norm: max_norm", max_norm)
    optimizer = _over(nets)
    program = optimizer._program
    with optimizer._guard:
        optimizer._refresh()
        if program.measure() == 0:
            program.clip(limit, np.inf)
        return program.norm


def clip_grad_value(nets: Gradients, clip_value: float) -> None:
    """Bound every number of the gradients by ``-clip_value .. clip_value``, in place; a NaN stays.

    As `torch.nn.utils.clip_grad_value_`.

    Parameters
    ----------
    nets : Net, list of Net, or Optimizer
        Whose gradients.
    clip_value : float
        At least 0.
    """
    limit = at_least_zero("clip_grad_value: clip_value", clip_value)
    optimizer = _over(nets)
    with optimizer._guard:
        optimizer._refresh()
        optimizer._program.clip(np.inf, limit)


def check_gradients(nets: Gradients) -> None:
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
