"""The tensors of PyTorch's files: each is a view of a storage, a run of numbers that several may share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np

from tinyrnn.errors import LoadError
from tinyrnn.weights.pickles import DTYPES, Name, Storage, View
from tinyrnn.weights.spec import MAX_DIMS, READ, Array, Reader, Tensor, bits_of, count_of, shown

SCALE = "_scale"  # follows the name of codes, as in files of int8 layers
# The codes of quantised tensors.
_CODES = {"qint8": "i1", "quint8": "u1", "qint32": "i4"}


class Storages(ABC):
    """The storages of one file; a subclass says where they lie.

    Parameters
    ----------
    reader : Reader
        The file.
    order : {"<", ">"}
        The byte order of the numbers.
    """

    def __init__(self, reader: Reader, order: str = "<") -> None:
        self.reader = reader
        self.order = order
        self._read: dict[str, Array] = {}  # those of which some tensor is only a view
        self._checked: dict[int, Tensor] = {}  # by the identity of their views
        self._scales: dict[int, Tensor] = {}  # of codes, likewise

    @abstractmethod
    def size(self, key: str, label: str) -> int:
        """Bytes of a storage; `label` names the tensor in the error if there is no such storage."""

    @abstractmethod
    def fill(self, key: str, array: Array, label: str) -> None:
        """Read a storage into an array of the same size."""

    def tensors(self, name: str, view: View) -> list[Tensor]:
        """The tensor under its name; a quantised layer's weight as codes and a scale for each row."""
        tensor = self.tensor(name, view)
        scale = self._scales.get(id(view))
        return [tensor] if scale is None else [tensor, scale._replace(name=name + SCALE)]

    def tensor(self, name: str, view: View) -> Tensor:
        """The tensor that the pickle describes: checked once, however many names it has."""
        if id(view) not in self._checked:
            self._checked[id(view)] = self._tensor(name, view)
        tensor = self._checked[id(view)]
        return tensor if tensor.name == name else tensor._replace(name=name)

    def _tensor(self, name: str, view: View) -> Tensor:
        """Check the pickle's description of a tensor against the file and against itself."""
        label = shown(name)

        def error(text: str) -> LoadError:
            return self.reader.error(f"{label}: {text}")

        if view.unread:
            raise error(f"got {view.unread}, expected a dense tensor")
        storage = view.storage
        if not isinstance(storage, Storage):
            raise error("the tensor has no storage")
        dtype = storage.dtype
        if isinstance(view.dtype, Name) and not dtype:
            dtype = DTYPES.get(view.dtype.name, "")
        if not dtype:
            raise error("the tensor's storage has no dtype")
        if isinstance(view.flags, dict) and view.flags:
            raise error("got a lazy conjugate or negative: save tensor.resolve_conj().resolve_neg()")
        shape, strides, offset = view.shape, view.strides, view.offset
        if type(shape) is list and len(shape) <= MAX_DIMS:  # Python 2's torch.Size
            shape = tuple(shape)
        if not (_whole(shape) and _whole(strides) and type(offset) is int and offset >= 0):
            raise error(f"size, stride and offset: expected at most {MAX_DIMS} integers each, none negative")
        assert isinstance(shape, tuple) and isinstance(strides, tuple)
        if len(shape) != len(strides):
            raise error(f"got {len(strides)} strides, expected {len(shape)}, one for each size")
        bits = bits_of(dtype)
        try:
            count = count_of(shape, bits)
        except ValueError as problem:
            raise error(f"shape {shown(str(shape))} {problem}") from None
        size = bits // 8
        actual = self.size(storage.key, label)
        whole = storage.whole * storage.unit
        if actual != whole:
            raise error(
                f"storage {shown(storage.key)} has {actual} bytes, expected {shown(str(whole))} by the pickle"
            )
        begin, held = storage.begin * storage.unit, storage.count * storage.unit
        if begin + held > actual:
            raise error(
                f"a part of storage {shown(storage.key)} ends at byte {shown(str(begin + held))}, expected "
                f"at most {actual}"
            )
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        need = (last + 1) * size if count else 0
        if need > held:
            raise error(
                f"storage has {held} bytes, expected {shown(str(need))} for shape {shape} of {dtype} "
                f"with strides {shown(str(strides))} from {shown(str(offset))}"
            )
        raw = partial(self._numbers, label, dtype, shape, strides, storage.key, actual, begin + offset * size)
        if dtype in _CODES and view.quantizer is not None:
            return self._quantised(name, dtype, shape, raw, view)
        return Tensor(name, dtype, shape, raw)

    def _numbers(
        self,
        label: str,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        key: str,
        held: int,
        begin: int,
    ) -> Array:
        """The numbers of a tensor that begins at a byte of a storage, which has `held` bytes."""
        code = np.dtype(self.order + (READ[dtype][0] if dtype in READ else _CODES[dtype]))
        count, size = math.prod(shape), code.itemsize
        if count == 0:
            return np.empty(shape, code)
        steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        packed = all(n == 1 or step == want for n, step, want in zip(shape, strides, steps, strict=True))
        if packed and count * size == held:  # alone in its storage, as most are
            array = np.empty(shape, code)
            self.fill(key, array, label)
            return array
        if key not in self._read:
            block = np.empty(held, np.uint8)
            self.fill(key, block, label)
            self._read[key] = block
        jumps = [step * size if n > 1 else 0 for n, step in zip(shape, strides, strict=True)]
        return np.ndarray(shape, code, self._read[key].data, begin, jumps)

    def _quantised(
        self, name: str, dtype: str, shape: tuple[int, ...], codes: Callable[[], Array], view: View
    ) -> Tensor:
        """A quantised tensor as the float32 numbers that it stands for: scale * (code - zero point).

        A layer's weight of int8 without a zero point stays codes. -128 becomes -127, as int8 layers are
        symmetric: PyTorch gives it to a most negative weight that lies between the two, at -127.5.
        """
        label = shown(name)
        match view.quantizer:
            case (Name(name="torch.per_tensor_affine"), float(scale), int(zero)) if abs(zero) < 1 << 31:
                steps: tuple[Tensor, Tensor] | None = None
                axis = 0
            case (
                Name(name="torch.per_channel_affine" | "torch.per_channel_affine_float_qparams"),
                View(quantizer=None) as scales,
                View(quantizer=None) as zeros,
                int(axis),
            ) if type(axis) is int and 0 <= axis < len(shape):
                parts = self._tensor(name, scales), self._tensor(name, zeros)
                if any(part.shape != (shape[axis],) or part.dtype not in READ for part in parts):
                    raise self.reader.error(f"{label}: expected a scale and a zero point for each channel")
                steps, scale, zero = parts, 0.0, 0
            case _:
                raise self.reader.error(f"{label}: quantised in another way than torch.save writes")

        kept = view.packed and dtype == "qint8" and axis == 0
        if kept and not (zero if steps is None else steps[1].array().any()):

            def by_row() -> Array:
                with np.errstate(all="ignore"):
                    return np.full(shape[:1], scale, np.float32) if steps is None else steps[0].array()

            self._scales[id(view)] = Tensor(name, "float32", shape[:1], by_row)
            return Tensor(name, "int8", shape, lambda: np.maximum(codes(), np.int8(-127)))

        def raw() -> Array:
            numbers = codes().astype(np.float64)
            with np.errstate(all="ignore"):
                if steps is None:
                    return ((numbers - zero) * np.float64(np.float32(scale))).astype(np.float32)
                wide = (-1, *(1 for _ in shape[axis + 1 :]))
                by_channel = [part.array().astype(np.float64).reshape(wide) for part in steps]
                return ((numbers - by_channel[1]) * by_channel[0]).astype(np.float32)

        return Tensor(name, "float32", shape, raw)


def _whole(value: object) -> bool:
    """Tell whether this is a tuple of integers. Its length comes first: many tensors can share a long one."""
    if type(value) is not tuple or len(value) > MAX_DIMS:
        return False
    return all(type(item) is int and item >= 0 for item in value)
