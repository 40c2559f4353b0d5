"""The exceptions that tinyrnn raises beyond Python's own.

Each is a ``ValueError`` or an ``ArithmeticError``, so code that does not import tinyrnn can catch it.
``csrc/status.def`` names them; a missing file stays an ``OSError``.
"""

_LONGEST = 2500  # characters of a message about a file


class ShapeError(ValueError):
    """An array has the wrong rank or size for its place."""


class WeightsError(ValueError):
    """A set of named tensors does not fit the net that should take them."""


class LoadError(ValueError):
    """A model file is malformed, truncated, hostile, or of a kind that cannot be read.

    A message may quote the file, which may hold anything, so the middle of a long message is left out.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - 500]} [...] {message[-480:]}"
        super().__init__(message)


class NonFiniteError(ArithmeticError):
    """A gradient, or another number of a training step, is not finite; the weights are as before."""
