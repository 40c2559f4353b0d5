"""The exceptions that tinyrnn raises beyond Python's own.

Every one is a ``ValueError`` or an ``ArithmeticError``, so code that knows nothing of tinyrnn can catch it.
``csrc/status.def`` names them; a missing file stays an ``OSError``.
"""


class ShapeError(ValueError):
    """An array has the wrong rank or size for where it was passed."""


class WeightsError(ValueError):
    """A set of named tensors does not fit the net that should take them."""


class LoadError(ValueError):
    """A model file is malformed, truncated, hostile, or of a kind that is not read."""


class NonFiniteError(ArithmeticError):
    """A gradient, or another number of a training step, is not finite; the weights are as before."""
