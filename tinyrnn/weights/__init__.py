"""Files that other frameworks wrote, without those frameworks.

A file's content decides which source reads it, and its suffix must agree. `load_weights` gives its tensors,
`tinyrnn.load` the net that it describes: one list serves both. Sources are imported when first needed, so
that this package costs nothing to import.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from tinyrnn.errors import LoadError
from tinyrnn.weights.folding import folded
from tinyrnn.weights.layouts import adapted
from tinyrnn.weights.spec import (
    HEAD_BYTES,
    MAX_NAME,
    MEMORY_FLOOR,
    MEMORY_RATIO,
    READ,
    Array,
    Contents,
    FileInfo,
    Readable,
    Reader,
    Source,
    StrPath,
    TensorInfo,
    shown,
)

__all__ = ["SOURCES", "FileInfo", "TensorInfo", "WeightsFile", "inspect_file", "load_weights", "opened"]

# The modules that each read one format. Each has `SOURCE`, a `spec.Source`. A new format is a file and a
# line here. The names are texts because modules that build nets stand above this one.
SOURCES = (
    "tinyrnn.weights.safetensors",
    "tinyrnn.weights.pytorch",
    "tinyrnn.weights.npz",
    "tinyrnn.weights.jsons",
    "tinyrnn.weights.shards",
    "tinyrnn.onnx.wire",
    "tinyrnn.keras.archive",
    "tinyrnn.keras.hdf5",
)

_PICKLE = "a pickle, which could run code and is never loaded"

# Other formats that people try, so that the error can name them.
_FOREIGN = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the real file with `git lfs pull`",
    b"\x93NUMPY": "a single NumPy array (.npy): save named arrays with numpy.savez",
    b"GGUF": "GGUF",
    b"\x1f\x8b": "gzip: unpack it first",
    b"<": "HTML or XML: perhaps an error page was downloaded in its place",
}
# The same by suffix, where the content tells too little.
_FOREIGN_SUFFIXES = {
    ".pickle": _PICKLE,
    ".pkl": _PICKLE,
    ".tflite": "TensorFlow Lite: load the Keras or PyTorch model that it was made from",
    ".pb": "TensorFlow: save the model there with model.save('model.keras')",
    ".mlmodel": "Core ML: read the model that it was made from",
    **dict.fromkeys((".msgpack", ".mpk"), "MessagePack of Flax or Burn: save .safetensors there"),
    ".ort": "ONNX Runtime's own: read the .onnx that it was made from",
}


def load_weights(path: Readable, key: str | None = None) -> dict[str, Array]:
    """Read the named tensors of a `.pt`, `.safetensors`, `.npz` or other file. No code in it is ever run.

    Parameters
    ----------
    path : str, os.PathLike or binary file
        The file: a path, or a file object that is open in binary mode and can seek, such as `io.BytesIO`. Its
        content decides the format; a known suffix that disagrees is an error.
    key : str, optional
        The part of a PyTorch checkpoint to read: ``"generator"``, or dotted, ``"models.generator"``;
        ``""`` is its outermost dict. Without a key the loader searches: it takes the first of
        ``"state_dict"``, ``"model_state_dict"``, ``"model"`` and the like that holds tensors, else the
        outermost dict if it holds tensors, else the only dict of tensors. A dict that holds nothing but such
        dicts, ``{"encoder": ..., "decoder": ...}``, gives ``encoder.*`` and ``decoder.*``.

    Returns
    -------
    dict of str to numpy.ndarray
        In the order of the file. float8, float16, bfloat16 and float64 become float32; one beyond float32's
        range becomes inf. Integers and bools keep their dtype. Every array is contiguous and writable, and
        shares no memory with another.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        As `open` does.
    LoadError
        If the file is malformed, damaged or hostile; if its content and its suffix name different formats; if
        it holds a dtype that cannot be read (complex, float4, bare scales); if its tensors need more memory
        than 64 MiB + 16 times the size of the file; if `key` is needed but missing, or names nothing.
    """
    with opened(path, key) as file:
        return file.weights()


def inspect_file(path: Readable, key: str | None = None) -> FileInfo:
    """List the tensors of a weights file: names, stored dtypes and shapes. Nothing is converted.

    Parameters
    ----------
    path, key
        As for `load_weights`.

    Returns
    -------
    FileInfo
        `format`, `tensors` (a list of `TensorInfo`), `metadata`, `bytes`, the size of the file, and `unread`,
        the parts that were left out. The list includes tensors whose dtype `load_weights` cannot read.

    Raises
    ------
    OSError, LoadError
        As `load_weights` does.
    """
    with opened(path, key) as file:
        return file.info


@contextmanager
def opened(path: Readable, key: str | None = None) -> Iterator[WeightsFile]:
    """Open a weights file once for several requests: its path may lead to another file a moment later.

    Parameters
    ----------
    path, key
        As for `load_weights`.

    Raises
    ------
    OSError, LoadError
        As `load_weights` does; also at the end, if the file changed in the meantime.
    """
    with Reader(path) as reader:
        yield WeightsFile(reader, key)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold the collector of cycles back: lists of tensors grow by many small objects and have no cycles.

    It would go through all of them again and again, which takes as long as to read them.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class WeightsFile:
    """An open file.

    Attributes
    ----------
    info : FileInfo
        The list of its tensors.
    net : object
        The description of the net in it, as its format has it; None if it holds weights alone.
    nets : str
        The module that builds such nets.
    """

    @_uncollected()
    def __init__(self, reader: Reader, key: str | None) -> None:
        self._reader = reader
        source, contents = _read(reader, key)
        self._tensors = contents.tensors
        self.net = contents.net
        self.nets = source.nets
        listed = [TensorInfo(tensor.name, tensor.dtype, tensor.shape) for tensor in contents.tensors]
        self.info = FileInfo(source.name, listed, contents.metadata, reader.total, list(contents.unread))

    def error(self, text: str) -> LoadError:
        """Make an error that begins with the path."""
        return self._reader.error(text)

    @_uncollected()
    def weights(self) -> dict[str, Array]:
        """Read its tensors, as `load_weights` gives them."""
        reader, tensors = self._reader, self._tensors
        for tensor in tensors:
            if tensor.dtype not in READ:
                raise reader.error(
                    f"{shown(tensor.name)}: dtype {tensor.dtype} cannot be read: convert it to float32"
                )
        limit = MEMORY_FLOOR + MEMORY_RATIO * reader.total
        total = sum(tensor.nbytes for tensor in tensors)
        if total > limit:
            most = max(tensors, key=lambda tensor: tensor.nbytes)
            raise reader.error(
                f"the tensors need {total} bytes of memory, expected at most {limit} for a file of "
                f"{reader.total} bytes; the largest is {shown(most.name)}, shape {most.shape}"
            )
        try:
            return {tensor.name: tensor.array() for tensor in tensors}
        except MemoryError:
            raise reader.error(f"not enough memory for the tensors, which need {total} bytes") from None


def _read(reader: Reader, key: str | None) -> tuple[Source, Contents]:
    """Find the source and let it list the file's tensors."""
    try:
        source = _source_of(reader)
        contents = source.read(reader, key)
    except MemoryError:
        raise reader.error("not enough memory to read the list of tensors") from None
    names = set()
    for tensor in contents.tensors:
        if len(tensor.name) > MAX_NAME:
            raise reader.error(
                f"{shown(tensor.name)}: got a name of {len(tensor.name)} characters, expected at most "
                f"{MAX_NAME}"
            )
        if tensor.name in names:
            raise reader.error(f"{shown(tensor.name)}: the name occurs twice, expected once")
        names.add(tensor.name)
    if contents.net is None or contents.folds:  # a net of ours has its weights, under whatever names
        tensors, parts = folded(reader, contents.tensors)
        tensors, others = adapted(tensors, contents.metadata)
        contents = contents._replace(tensors=tensors, unread=[*contents.unread, *parts, *others])
    return source, contents


def _sources() -> Iterator[Source]:
    """The sources in order, each imported when its turn comes."""
    for name in SOURCES:
        yield import_module(name).SOURCE


def source_of_suffix(path: StrPath) -> Source | None:
    """The source whose format a file's suffix names; None if no source has that suffix."""
    return _of_suffix(os.path.splitext(os.fspath(path))[1].lower())


def _of_suffix(suffix: str) -> Source | None:
    return next((source for source in _sources() if suffix in source.suffixes), None)


def _source_of(reader: Reader) -> Source:
    """The source whose format the content has. The suffix must name the same format."""
    if reader.size == 0:
        raise reader.error(f"the file is empty, expected one of {_known()}")
    head = reader.read(0, min(HEAD_BYTES, reader.size), "the head of the file")
    suffix = reader.suffix
    seen = next((source for source in _sources() if source.matches(head)), None)
    if seen is not None and suffix in seen.suffixes:
        return seen
    said = _of_suffix(suffix)
    if seen is not None and said is None:
        return seen
    if seen is not None and said is not None:
        raise reader.error(
            f"the suffix {suffix} says {said.name}, but the content looks like {seen.name}: rename the file"
        )
    looks = _foreign(head)
    if said is not None and looks is None:
        return said  # its own error says best what is wrong
    if looks is not None:
        looks = f"the content looks like {looks}"
    elif suffix in _FOREIGN_SUFFIXES:
        looks = f"the suffix {suffix} says {_FOREIGN_SUFFIXES[suffix]}"
    elif head.startswith(b"PK"):
        looks = "the content looks like a zip archive that neither PyTorch nor NumPy wrote: unpack it first"
    else:
        looks = f"the content is unknown (it begins with {head[:8].hex(' ')})"
    says = f"the suffix {suffix} says {said.name}, but " if said is not None else ""
    raise reader.error(f"{says}{looks}; expected one of {_known()}")


def _known() -> str:
    """List the suffixes of all formats that are read, for a message."""
    return " ".join(dict.fromkeys(suffix for source in _sources() for suffix in source.suffixes))


def _foreign(head: bytes) -> str | None:
    """Name the foreign format that a file looks like, None if there is no guess."""
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        if b"torch" in head:
            return (
                f"{_PICKLE}: load it in PyTorch and save it again with torch.save(model.state_dict(), path)"
            )
        arrays = "numpy.savez(path, **arrays)"
        if b"numpy" in head:
            return f"{_PICKLE}, of NumPy arrays: load it where it is trusted and save it again with {arrays}"
        return (
            f"{_PICKLE}: load it where it is trusted and save it again, arrays with {arrays}, a PyTorch "
            "model with torch.save(model.state_dict(), path)"
        )
    return next((text for magic, text in _FOREIGN.items() if head.startswith(magic)), None)
