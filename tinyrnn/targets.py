"""Losses and their weights, targets, and masks: for each output of a net, by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinyrnn.arguments import check_positive

if TYPE_CHECKING:
    from tinyrnn.losses import Loss


def losses_by_output(what: str, loss: Any, names: list[str]) -> dict[str, Loss | None]:
    """The loss of each output; of one output, or given by name. None: an output without a loss."""
    from tinyrnn.losses import Loss

    if isinstance(loss, Mapping):
        if not loss or not loss.keys() <= set(names):
            raise ValueError(f"{what}: loss: got {sorted(map(str, loss))}, expected some of {names}")
        given = dict(loss)
    elif len(names) > 1:
        raise TypeError(
            f"{what}: loss is {type(loss).__name__}, expected a mapping from output to loss: {names}; an "
            "output without one is left out"
        )
    else:
        given = {names[0]: loss}
    for one in given.values():
        if not isinstance(one, Loss):
            raise TypeError(f"{what}: loss is {type(one).__name__}, expected a loss such as tr.MSELoss()")
        if one.reduction == "none":
            raise ValueError(f"{what}: the loss has reduction 'none', expected 'mean' or 'sum'")
    return {name: given.get(name) for name in names}


def weights_of(what: str, weights: Any, loss: Any) -> dict[str, float]:
    """The factor of each loss that has one."""
    if weights is None:
        return {}
    if not isinstance(weights, Mapping) or not isinstance(loss, Mapping):
        raise TypeError(
            f"{what}loss_weights: expected a mapping from output to number, and loss a mapping, too"
        )
    if not weights.keys() <= loss.keys():
        raise ValueError(
            f"{what}loss_weights: got {sorted(map(str, weights))}, expected some of {sorted(loss)}"
        )
    return {name: check_positive(f"{what}loss_weights: {name}", weight) for name, weight in weights.items()}


def targets_by_output(what: str, y: Any, names: list[str]) -> dict[str, Any]:
    """The target of each output that has a loss; that of a single one may be given without its name."""
    if len(names) == 1 and not isinstance(y, Mapping):
        return {names[0]: y}
    if not isinstance(y, Mapping) or y.keys() != set(names):
        got = sorted(map(str, y)) if isinstance(y, Mapping) else type(y).__name__
        raise TypeError(f"{what}y: got {got}, expected a mapping from output to target, as the loss: {names}")
    return dict(y)


def masks_by_output(what: str, mask: Any, names: list[str]) -> dict[str, Any]:
    """The mask of each output that has one; that of a single output may be given without its name."""
    if mask is None:
        return {}
    if len(names) == 1 and not isinstance(mask, Mapping):
        return {names[0]: mask}
    if not isinstance(mask, Mapping) or not mask.keys() <= set(names):
        got = sorted(map(str, mask)) if isinstance(mask, Mapping) else type(mask).__name__
        raise TypeError(f"{what}mask: got {got}, expected a mapping from output to mask: some of {names}")
    return {name: one for name, one in mask.items() if one is not None}
