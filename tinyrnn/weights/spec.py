"""The contract of sources, and the checks that keep a hostile file harmless.

A source is one module that reads one file format. It turns an open :class:`Reader` into :class:`Contents`:
a list of :class:`Tensor`, and the description of a net if the file has one. Each tensor has a name, a stored
dtype and a shape, and reads its numbers only on demand. Before any are read, `__init__.py` adds up the memory
that they need and compares it with the size of the file. A description stays as the format has it; the module
that `Source.nets` names builds the net, in a room above.

One rule holds for all sources: compare a number from the file with what the file can hold before using it.
A number that does not fit is a `LoadError` that names the file, the tensor, what it got and what it expected.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyrnn.errors import LoadError
from tinyrnn.files import naming

Array = npt.NDArray[Any]
StrPath = str | os.PathLike[str]
Readable = StrPath | BinaryIO

HEAD_BYTES = 4096  # bytes that `Source.matches` gets
MAX_DIMS = 32  # NumPy's own limit before 2.0
MAX_NAME = 1000  # characters in a tensor's name
MAX_TENSORS = 40_000  # each takes about 1.5 kB of memory, whatever its numbers
MEMORY_FLOOR = 64 << 20  # tensors may always take this many bytes in memory, ...
MEMORY_RATIO = 16  # ... and this many times the size of the file on top

# By PyTorch's name of the stored dtype: (NumPy code of the stored number, dtype that is delivered).
READ = {
    "float64": ("f8", np.float32),
    "float32": ("f4", np.float32),
    "float16": ("f2", np.float32),
    "bfloat16": ("u2", np.float32),
    "int64": ("i8", np.int64),
    "int32": ("i4", np.int32),
    "int16": ("i2", np.int16),
    "int8": ("i1", np.int8),
    "uint64": ("u8", np.uint64),
    "uint32": ("u4", np.uint32),
    "uint16": ("u2", np.uint16),
    "uint8": ("u1", np.uint8),
    "bool": ("u1", np.bool_),
}
# Floats of a byte: bits of the mantissa, the exponent's bias, and the codes of NaN and infinity.
FLOAT8 = {
    "float8_e4m3fn": (3, 7, {0x7F: np.nan, 0xFF: np.nan}),
    "float8_e4m3fnuz": (3, 8, {0x80: np.nan}),
    "float8_e5m2": (
        2,
        15,
        {0x7C: np.inf, 0xFC: -np.inf} | {s + i: np.nan for s in (0x7D, 0xFD) for i in range(3)},
    ),
    "float8_e5m2fnuz": (2, 16, {0x80: np.nan}),
}
READ |= dict.fromkeys(FLOAT8, ("u1", np.float32))
# Bits of the dtypes that can be checked and listed, but not delivered.
UNREAD_BITS = {
    "complex32": 32,
    "complex64": 64,
    "complex128": 128,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
    "float8_e8m0fnu": 8,
    "qint8": 8,
    "quint8": 8,
    "qint32": 32,
    "quint4x2": 8,
    "quint2x4": 8,
}


def bits_of(dtype: str) -> int:
    """Bits of one number of a known dtype."""
    return np.dtype(READ[dtype][0]).itemsize * 8 if dtype in READ else UNREAD_BITS[dtype]


def float8(dtype: str, codes: Array) -> npt.NDArray[np.float32]:
    """The numbers that the codes of a float of a byte stand for; OCP's OFP8, and the fnuz forms of AMD."""
    mantissa, bias, special = FLOAT8[dtype]
    code = np.arange(256)
    exponent, fraction = (code & 0x7F) >> mantissa, (code & (1 << mantissa) - 1) / 2.0**mantissa
    size = np.ldexp(fraction + (exponent > 0), np.maximum(exponent, 1) - bias)
    table = np.where(code < 0x80, size, -size)
    table[list(special)] = list(special.values())
    numbers: npt.NDArray[np.float32] = table.astype(np.float32)[codes]
    return numbers


def shown(text: str, limit: int = 100) -> str:
    """Make a string from a file fit for an error message: one line, no control characters, not too long."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text if text.isprintable() and text else ascii(text)


def count_of(shape: tuple[int, ...], bits: int) -> int:
    """The number of elements in a shape.

    Raises
    ------
    ValueError
        If it has too many dimensions, a negative one, or more bytes than this machine can address.
    """
    if len(shape) > MAX_DIMS:
        raise ValueError(f"has {len(shape)} dimensions, expected at most {MAX_DIMS}")
    count, span = 1, max(bits // 8, 1)
    for size in shape:
        if size < 0:
            raise ValueError(f"has the dimension {size}, expected none below 0")
        count *= size
        span *= max(size, 1)  # NumPy's own limit looks past the zeros
        if span > sys.maxsize:
            raise ValueError("needs more bytes than this machine can address")
    return count


class Reader:
    """A file under inspection: bounds-checked reads, and errors that begin with the path.

    A path is opened once. All reads go to that file, even if the path leads to another by then. A file that
    changes in the meantime is an error. A file object (`io.BytesIO`, or one opened in binary mode) is read
    from its beginning, stays open, and has its position again afterwards.

    Attributes
    ----------
    path : str
        The path, or the name of the file object, for messages.
    suffix : str
        That of the path in lower case, with the dot; "" for a file object.
    size : int
        Bytes.
    total : int
        Bytes, with those of files opened beside it.
    """

    _file: Any
    _written: int
    size: int
    total: int

    def __init__(self, path: Readable) -> None:
        self._restored: int | None = None  # the position of a file object
        self._others: list[Reader] = []
        if not isinstance(path, str | bytes | os.PathLike):
            self._take(path)
            self.total = self.size
            return
        self.path = os.fsdecode(path)
        self.suffix = os.path.splitext(self.path)[1].lower()
        try:
            self._file = open(self.path, "rb", opener=_open_at_once)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            if error.errno == errno.ENXIO:  # a socket
                raise self._irregular() from None
            if os.path.isdir(self.path):
                raise self._folder() from None
            explain_address(error)
            raise
        except ValueError as error:  # a zero byte in the name
            raise ValueError(f"path: got {error}, expected a path, or io.BytesIO(content)") from None
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise self._irregular()
        self.size = self.total = status.st_size
        self._written = status.st_mtime_ns

    def _take(self, file: Any) -> None:
        """Take a file object in place of a path."""
        name = getattr(file, "name", "")
        self.path, self.suffix = name if name and isinstance(name, str) else f"<{type(file).__name__}>", ""
        if not all(hasattr(file, method) for method in ("read", "seek", "tell")):
            raise TypeError(f"path: got {type(file).__name__}, expected a path or an open binary file")
        self._restored = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not isinstance(file.read(0), bytes):
            raise TypeError(f"{self.path}: is open as text, expected a file opened with mode 'rb'")
        self._file = file

    def _irregular(self) -> LoadError:
        return self.error("is not a regular file")

    def _folder(self) -> IsADirectoryError:
        return IsADirectoryError(f"{self.path}: is a directory, expected a weights file")

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for other in self._others:
                stack.push(other)
        if self._restored is not None:
            self._file.seek(self._restored)
            return
        with self._file:
            status = os.fstat(self._file.fileno())
        if kind is None and (status.st_size, status.st_mtime_ns) != (self.size, self._written):
            raise self.error("the file changed while it was read: load it again when it is complete")

    def beside(self, name: str) -> Reader:
        """Open a file in the same folder, which this one's end closes. The caller has checked the name."""
        if self._restored is not None:
            raise self.error(f"names {shown(name)} beside it: give a path, not an open file")
        other = Reader(os.path.join(os.path.dirname(self.path), name))
        self._others.append(other)
        self.total += other.size
        return other

    def error(self, text: str) -> LoadError:
        return LoadError(f"{self.path}: {text}")

    def read(self, offset: int, count: int, what: str) -> bytes:
        """Exactly `count` bytes from `offset`; `what` names them in the error."""
        if offset < 0 or count < 0 or count > self.size - offset:
            raise self.error(f"{what} needs bytes {offset} to {offset + count}, but the file has {self.size}")
        try:
            self._file.seek(offset)
            data: bytes = self._file.read(count)
        except OSError:
            with naming(self.path):
                raise
        if len(data) != count:
            raise self.error(f"{what}: the file was cut short while it was read")
        return data

    def fill(self, offset: int, array: Array, what: str) -> None:
        """Read an array's bytes, in place, without a copy."""
        if offset < 0 or array.nbytes > self.size - offset:
            raise self.error(f"{what} needs {array.nbytes} bytes from {offset}, but the file has {self.size}")
        with naming(self.path):
            self._file.seek(offset)
            if hasattr(self._file, "readinto"):
                count = self._file.readinto(bytes_of(array))
            else:
                data: bytes = self._file.read(array.nbytes)
                count = len(data)
                bytes_of(array)[:count] = data
        if count != array.nbytes:
            raise self.error(f"{what}: the file was cut short while it was read")


def explain_address(error: OSError) -> None:
    """Say what to do about a path that is an address of the web."""
    # Windows calls the colon invalid; behind a single letter it is a drive's.
    if error.errno in (errno.ENOENT, errno.EINVAL) and "://" in os.fsdecode(error.filename or "")[2:]:
        error.strerror = "got an address, expected a file: download it first"


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def bytes_of(array: Array) -> memoryview:
    """The bytes of a contiguous array, writable, whatever its rank."""
    return array.reshape(-1).view(np.uint8).data


class Tensor(NamedTuple):
    """One tensor of a file, not read yet.

    `raw()` gives its numbers as stored, in any layout and byte order: bfloat16 as uint16, bool as uint8.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Bytes in memory once delivered."""
        return count_of(self.shape, bits_of(self.dtype)) * np.dtype(READ[self.dtype][1]).itemsize

    @property
    def is_float(self) -> bool:
        """True if its numbers are delivered as float32."""
        return self.dtype in READ and READ[self.dtype][1] is np.float32

    def view(self) -> Array:
        """The numbers as `array` gives them, but where that may be the file's own bytes, read-only."""
        raw = self.raw()
        plain = raw.dtype == READ[self.dtype][1] and raw.flags.aligned and raw.flags.c_contiguous
        return raw if plain else self.array()

    def array(self) -> Array:
        """The numbers as delivered: floats as float32, the rest in its own dtype, contiguous and owned."""
        raw, target = self.raw(), np.dtype(READ[self.dtype][1])
        if raw.dtype == target and raw.flags.owndata and raw.flags.c_contiguous:
            return raw
        out = np.empty(self.shape, target)
        if self.dtype == "bfloat16":  # the upper half of a float32
            bits = out.view(np.uint32)
            bits[...] = raw
            np.left_shift(bits, np.uint32(16), out=bits)
        elif self.dtype in FLOAT8:
            flat, block = out.reshape(-1), 1 << 20  # an index of codes has eight bytes for each
            for at in range(0, flat.size, block):
                flat[at : at + block] = float8(self.dtype, raw.flat[at : at + block])
        elif self.dtype == "bool":
            np.not_equal(raw, 0, out=out)
        else:
            with np.errstate(all="ignore"):  # beyond float32 is inf, by contract
                out[...] = raw
        return out


class Contents(NamedTuple):
    """The findings of a source in a file.

    Attributes
    ----------
    tensors : list of Tensor
        In the order of the file.
    metadata : dict of str to str
        Texts that the file has beside them.
    net : object
        The description of a net, as the format has it; None if the file holds weights alone.
    unread : sequence of (str, str)
        Dotted name and kind of each part of the file that was left out.
    folds : bool
        True if the tensors beside a net are those of modules, whose reparametrizations fold.
    """

    tensors: list[Tensor]
    metadata: dict[str, str]
    net: Any = None
    unread: Sequence[tuple[str, str]] = ()
    folds: bool = False


class Source(NamedTuple):
    """One file format.

    Attributes
    ----------
    name : str
        The format's name in messages.
    suffixes : tuple of str
        Lower case, with the dot.
    matches : callable
        True if the first `HEAD_BYTES` bytes of a file look like this format.
    read : callable
        `read(reader, key)` checks the whole structure and lists the tensors, without their numbers.
        `key` chooses one of several sets of weights in a file; it is None unless the caller gave one.
    nets : str
        The module that builds the nets of this format, for `import_module`; "" if its files hold weights
        alone. Its `build_net(file, **options)` takes a `WeightsFile` whose `net` is not None.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[Reader, str | None], Contents]
    nets: str = ""


class TensorInfo(NamedTuple):
    """Name, dtype as stored and shape of a tensor in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class FileInfo(NamedTuple):
    """The result of `inspect_file`.

    Attributes
    ----------
    format : str
        The format's name.
    tensors : list of TensorInfo
        In the order of the file.
    metadata : dict of str to str
        Texts beside them.
    bytes : int
        The size of the file.
    unread : list of (str, str)
        Name and kind of each part of a checkpoint that is no weight or was not chosen; 1,000 at most.
    """

    format: str
    tensors: list[TensorInfo]
    metadata: dict[str, str]
    bytes: int
    unread: Sequence[tuple[str, str]] = ()
