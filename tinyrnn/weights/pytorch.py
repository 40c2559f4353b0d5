"""PyTorch's .pt and .pth, as `torch.save` has written them since 1.6.

The file is a zip archive whose members are stored, not compressed, all in one folder: ``data.pkl``, a pickle
in which each tensor is a call to a rebuild function (storage, offset, size, stride, ...); ``data/<key>``, the
bytes of each storage; ``byteorder``, absent in older files; ``version`` and others that do not matter here.
Several tensors may share one storage.

The interpreter below reads the pickle, not Python's. It handles the opcodes that `torch.save` emits and a
list of names. It imports nothing and calls nothing: a name is a token, a call of a token builds one of our
own inert objects, and everything else is an error. It does not recurse, and each opcode makes at most one
small object, so a file costs memory in proportion to its size.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np

from tinyrnn.errors import LoadError
from tinyrnn.weights.archive import STORED, Member, first_member, member_fill, read_archive, unpacked
from tinyrnn.weights.spec import (
    MAX_DIMS,
    MAX_NAME,
    MAX_TENSORS,
    READ,
    UNREAD_BITS,
    Array,
    Contents,
    Reader,
    Source,
    Tensor,
    bits_of,
    count_of,
    shown,
)

MAX_PICKLE = 64 << 20  # bytes
MAX_OPCODES = 2_000_000  # about 25 for each tensor
MAX_KEY_BITS = 64  # of a number that is a dict key: larger ones can be made to collide
MAX_LEVELS = 8  # of dicts around the weights
MAX_NAMES = 4 << 20  # characters of all dotted names together, beyond the size of the file
SHORT = 64  # characters of a text that is compared in no time

STATE_DICT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
)
_NOT_WEIGHTS = ("optim", "sched", "scaler", "_extra_state")

# The names that a pickle may mention. Any other is an error.
_DICTS = frozenset({"collections.OrderedDict", "collections.defaultdict"})
_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
    "torch.QInt32Storage": "qint32",
    "torch.QUInt4x2Storage": "quint4x2",
    "torch.QUInt2x4Storage": "quint2x4",
    "torch.storage.UntypedStorage": "",
}
_DTYPES = {f"torch.{name}": name for name in (*READ, *UNREAD_BITS) if bits_of(name) >= 8}
_STRIDED = {f"torch._utils._rebuild_{kind}" for kind in ("tensor_v2", "tensor_v3", "qtensor")}
_PARAMETERS = {f"torch._utils._rebuild_{kind}" for kind in ("parameter", "parameter_with_state")}
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_UNREAD_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without data (device meta)",
    "torch._utils._rebuild_wrapper_subclass": "a wrapped tensor",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}
# Objects that stand beside the weights in checkpoints. They are skipped.
_BUILTINS = (
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
)
_MULTIARRAY = ("_reconstruct", "scalar")
_PATHS = ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
_QSCHEMES = [f"per_{of}_{kind}" for of in ("tensor", "channel") for kind in ("affine", "symmetric")]
_INERT = {
    f"{module}.{name}"
    for module, names in {
        "_codecs": ("encode",),
        "argparse": ("Namespace",),
        "builtins": _BUILTINS,
        "__builtin__": (*_BUILTINS, "long", "unicode", "xrange"),
        "collections": ("Counter", "deque"),
        "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
        "decimal": ("Decimal",),
        "numpy": ("dtype", "ndarray"),
        "numpy.core.multiarray": _MULTIARRAY,
        "numpy._core.multiarray": _MULTIARRAY,
        "numpy.core.numeric": ("_frombuffer",),
        "numpy._core.numeric": ("_frombuffer",),
        "pathlib": _PATHS,
        "pathlib._local": _PATHS,
        "torch": ("Size", "Tensor", "device", *_QSCHEMES, "per_channel_affine_float_qparams"),
        "torch.nn.parameter": ("Buffer", "Parameter"),
        "torch.serialization": ("_get_layout",),
        "types": ("SimpleNamespace",),
        "uuid": ("SafeUUID", "UUID"),
    }.items()
    for name in names
}
_NAMES = {_FROM_TYPE}.union(_DICTS, _STORAGES, _DTYPES, _STRIDED, _PARAMETERS, _UNREAD_TENSORS, _INERT)


_Text = TypeVar("_Text", str, bytes)


class _Name:
    """A module's attribute, by name only."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Inert:
    """An object that is no weight. It keeps nothing."""


@dataclass(frozen=True, eq=False)
class _Storage:
    """A run of numbers in the archive. Where `dtype` is empty each tensor has its own; `count` is bytes."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True, eq=False)
class _View:
    """A tensor as the pickle describes it. It is checked once it has a name, so that an error can say it."""

    storage: object
    offset: object
    shape: object
    strides: object
    dtype: object = None
    flags: object = None
    unread: str = ""


def matches(head: bytes) -> bool:
    name = first_member(head)
    return _legacy(head) is not None or (name is not None and "/" in name and not name.endswith(".npy"))


def _legacy(head: bytes) -> str | None:
    """Name an older format that `torch.load` still reads, None if the file has no such format."""
    if head[257:262] == b"ustar":
        return "PyTorch's tar format (before 0.1.10)"
    if head[:1] == b"\x80" and head[2:14] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19":
        return "PyTorch's old format (before 1.6)"
    return None


def read(reader: Reader, key: str | None) -> Contents:
    head = reader.read(0, min(512, reader.size), "the head of the file")
    if (old := _legacy(head)) is not None:
        raise reader.error(
            f"{old}: load it in PyTorch and save it again with torch.save(model.state_dict(), path)"
        )
    if head[:4] not in (b"PK\3\4", b"PK\5\6"):
        raise reader.error(
            f"the file begins with {head[:8].hex(' ')}, expected a zip archive, as torch.save writes it"
        )
    archive = _Archive(reader)
    weights = _pick(reader, _Pickle(reader, archive.pickle()).run(), key)
    if len(weights) > MAX_TENSORS:
        raise reader.error(f"got {len(weights)} tensors, expected at most {MAX_TENSORS}")
    return Contents([archive.tensor(name, view) for name, view in weights], metadata={})


class _Archive:
    """The zip archive of `torch.save`."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.members = read_archive(reader)
        roots = [name[:-8] for name in self.members if name.endswith("/data.pkl") and name.count("/") == 1]
        script = any(name.endswith("/constants.pkl") or "/code/" in name for name in self.members)
        if script:
            raise reader.error(
                "got a TorchScript archive, which holds code: load it in PyTorch and save its weights with "
                "torch.save(torch.jit.load(path).state_dict(), new_path)"
            )
        if any(name.endswith("/archive_format") for name in self.members):
            program = any(name.endswith("/models/model.json") for name in self.members)
            raise reader.error(
                "got a program of torch.export (.pt2): load it in PyTorch and save its weights with "
                "torch.save(torch.export.load(path).state_dict, new_path)"
                if program
                else "got a package that PyTorch compiled (.pt2): save model.state_dict() with torch.save"
            )
        if len(roots) != 1:
            raise reader.error(
                f"got a zip archive with {len(roots)} data.pkl, expected one, as torch.save writes it"
            )
        self.root = roots[0]
        if len(self.root) > MAX_NAME:
            raise reader.error(
                f"the folder's name has {len(self.root)} characters, expected at most {MAX_NAME}"
            )
        order = self._small("byteorder")
        if order not in (b"", b"little", b"big"):
            raise reader.error(f"byteorder is {order!a}, expected little or big")
        self.order = ">" if order == b"big" else "<"
        self._storages: dict[str, Array] = {}  # those of which some tensor is only a view, once read
        self._checked: dict[int, Tensor] = {}  # by the identity of their views

    def _member(self, name: str, label: str) -> Member:
        member = self.members.get(self.root + name)
        if member is None:
            raise self.reader.error(f"{label}: {shown(self.root + name)} is missing from the archive")
        if member.method != STORED:
            raise self.reader.error(
                f"{label}: {shown(member.name)} is compressed, expected it stored, as torch.save writes it"
            )
        return member

    def _small(self, name: str) -> bytes:
        if self.root + name not in self.members:
            return b""
        member = self._member(name, name)
        if member.size > 100:
            raise self.reader.error(f"{name} has {member.size} bytes, expected at most 100")
        return b"".join(unpacked(self.reader, member))

    def pickle(self) -> bytes:
        member = self._member("data.pkl", "data.pkl")
        if member.size > MAX_PICKLE:
            raise self.reader.error(f"data.pkl has {member.size} bytes, expected at most {MAX_PICKLE}")
        return b"".join(unpacked(self.reader, member))

    def tensor(self, name: str, view: _View) -> Tensor:
        """The tensor that the pickle describes: checked once, however many names it has."""
        if id(view) not in self._checked:
            self._checked[id(view)] = self._tensor(name, view)
        return self._checked[id(view)]._replace(name=name)

    def _tensor(self, name: str, view: _View) -> Tensor:
        """Check the pickle's description of a tensor against the archive and against itself."""
        label = shown(name)

        def error(text: str) -> LoadError:
            return self.reader.error(f"{label}: {text}")

        if view.unread:
            raise error(f"got {view.unread}, expected a dense tensor")
        storage = view.storage
        if not isinstance(storage, _Storage):
            raise error("the tensor has no storage")
        dtype = storage.dtype
        if isinstance(view.dtype, _Name) and not dtype:
            dtype = _DTYPES.get(view.dtype.name, "")
        if not dtype:
            raise error("the tensor's storage has no dtype")
        if isinstance(view.flags, dict) and view.flags:
            raise error("got a lazy conjugate or negative: save tensor.resolve_conj().resolve_neg()")
        shape, strides, offset = view.shape, view.strides, view.offset
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
        member = self._member(f"data/{storage.key}", label)
        size = bits // 8
        held = storage.count * (size if storage.dtype else 1)
        if member.size != held:
            raise error(
                f"storage {shown(storage.key)} has {member.size} bytes, expected {shown(str(held))} by the "
                "pickle"
            )
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        need = (last + 1) * size if count else 0
        if need > member.size:
            raise error(
                f"storage has {member.size} bytes, expected {shown(str(need))} for shape {shape} of {dtype} "
                f"with strides {shown(str(strides))} from {shown(str(offset))}"
            )

        def raw() -> Array:
            code = np.dtype(self.order + READ[dtype][0])
            if count == 0:
                return np.empty(shape, code)
            steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
            packed = all(n == 1 or step == want for n, step, want in zip(shape, strides, steps, strict=True))
            if packed and count * size == member.size:  # alone in its storage, as most are
                array = np.empty(shape, code)
                member_fill(self.reader, member, 0, array)
                return array
            if storage.key not in self._storages:
                block = np.empty(member.size, np.uint8)
                member_fill(self.reader, member, 0, block)
                self._storages[storage.key] = block
            jumps = [step * size if n > 1 else 0 for n, step in zip(shape, strides, strict=True)]
            return np.ndarray(shape, code, self._storages[storage.key].data, offset * size, jumps)

        return Tensor(name, dtype, shape, raw)


def _whole(value: object) -> bool:
    """Tell whether this is a tuple of integers. Its length comes first: many tensors can share a long one."""
    if type(value) is not tuple or len(value) > MAX_DIMS:
        return False
    return all(type(item) is int and item >= 0 for item in value)


class _Pickle:
    """An interpreter of the opcodes that `torch.save` emits with pickle protocols 2 to 5."""

    def __init__(self, reader: Reader, data: bytes) -> None:
        self.reader = reader
        self.data = data
        self.at = 0
        self.begin = 0  # of the current opcode
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.texts: dict[Any, Any] = {}

    def error(self, text: str) -> LoadError:
        return self.reader.error(f"data.pkl, byte {self.begin}: {text}")

    def take(self, count: int) -> bytes:
        stop = self.at + count
        if stop > len(self.data):
            raise self.error(f"needs {count} more bytes, but {len(self.data) - self.at} are left")
        taken, self.at = self.data[self.at : stop], stop
        return taken

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def text(self, raw: bytes) -> str:
        try:
            return self.unique(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise self.error("a string is not UTF-8") from None

    def unique(self, text: _Text) -> _Text:
        """The first of equal strings, so that comparing keys goes through two long ones only once."""
        return text if len(text) <= SHORT else self.texts.setdefault(text, text)

    def line(self) -> str:
        stop = self.data.find(b"\n", self.at, self.at + 256)
        if stop < 0:
            raise self.error("a name has no end")
        return self.text(self.take(stop + 1 - self.at)[:-1])

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("takes more from the stack than it holds")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("needs a mark, but the stack has none")
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def run(self) -> object:
        """Run the opcodes and return the pickled object. An opcode that is not listed here is an error."""
        push = self.stack.append
        for _ in range(MAX_OPCODES):
            self.begin = self.at
            match self.take(1):
                # values
                case b"N":  # NONE
                    push(None)
                case b"\x88":  # NEWTRUE
                    push(True)
                case b"\x89":  # NEWFALSE
                    push(False)
                case b"K":  # BININT1
                    push(self.number("<B"))
                case b"M":  # BININT2
                    push(self.number("<H"))
                case b"J":  # BININT
                    push(self.number("<i"))
                case b"\x8a":  # LONG1
                    push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
                case b"G":  # BINFLOAT
                    push(self.number(">d"))
                case b"X":  # BINUNICODE
                    push(self.text(self.take(self.number("<I"))))
                case b"\x8c":  # SHORT_BINUNICODE
                    push(self.text(self.take(self.number("<B"))))
                case b"B":  # BINBYTES
                    push(self.unique(self.take(self.number("<I"))))
                case b"C":  # SHORT_BINBYTES
                    push(self.unique(self.take(self.number("<B"))))
                case b"\x96":  # BYTEARRAY8
                    push(self.unique(self.take(self.number("<Q"))))
                # containers
                case b"(":  # MARK
                    self.marks.append(len(self.stack))
                case b")":  # EMPTY_TUPLE
                    push(())
                case b"\x85":  # TUPLE1
                    push((self.pop(),))
                case b"\x86":  # TUPLE2
                    two = self.pop()
                    push((self.pop(), two))
                case b"\x87":  # TUPLE3
                    three, two = self.pop(), self.pop()
                    push((self.pop(), two, three))
                case b"t":  # TUPLE
                    push(tuple(self.pop_mark()))
                case b"]":  # EMPTY_LIST
                    push([])
                case b"a":  # APPEND
                    self.extend([self.pop()])
                case b"e":  # APPENDS
                    self.extend(self.pop_mark())
                case b"}":  # EMPTY_DICT
                    push({})
                case b"s":  # SETITEM
                    value = self.pop()
                    self.update([self.pop(), value])
                case b"u":  # SETITEMS
                    self.update(self.pop_mark())
                case b"\x8f":  # EMPTY_SET
                    push(_Inert())
                case b"\x90":  # ADDITEMS
                    self.pop_mark()
                    self.expect(_Inert)
                case b"\x91":  # FROZENSET
                    self.pop_mark()
                    push(_Inert())
                # memo
                case b"q":  # BINPUT
                    self.memo[self.number("<B")] = self.top()
                case b"r":  # LONG_BINPUT
                    self.memo[self.number("<I")] = self.top()
                case b"\x94":  # MEMOIZE
                    self.memo[len(self.memo)] = self.top()
                case b"h":  # BINGET
                    push(self.recall(self.number("<B")))
                case b"j":  # LONG_BINGET
                    push(self.recall(self.number("<I")))
                # objects
                case b"c":  # GLOBAL
                    push(self.name(self.line(), self.line()))
                case b"\x93":  # STACK_GLOBAL
                    attribute = self.pop()
                    push(self.name(self.pop(), attribute))
                case b"R" | b"\x81":  # REDUCE, NEWOBJ
                    arguments = self.pop()
                    push(self.call(self.pop(), arguments))
                case b"b":  # BUILD
                    self.pop()
                    self.expect(dict, _Inert)
                case b"Q":  # BINPERSID
                    push(self.storage(self.pop()))
                # frame of it all
                case b"\x80":  # PROTO
                    if self.begin or not 2 <= self.number("<B") <= 5:
                        raise self.error("expected protocol 2 to 5, once, at the beginning")
                case b"\x95":  # FRAME
                    if self.number("<Q") > len(self.data) - self.at:
                        raise self.error("a frame runs past the end")
                case b"0":  # POP
                    self.pop()
                case b"1":  # POP_MARK
                    self.pop_mark()
                case b".":  # STOP
                    break
                case opcode:
                    raise self.error(f"got opcode {_opcode_name(opcode)}, which torch.save does not write")
        else:
            raise self.error(f"expected at most {MAX_OPCODES} opcodes")
        value = self.pop()
        if self.stack or self.marks or self.at != len(self.data):
            raise self.error("data is left over after the end")
        return value

    def expect(self, *kinds: type) -> Any:
        value = self.top()
        if type(value) not in kinds:
            raise self.error(f"the opcode does not apply to {_kind(value)}")
        return value

    def extend(self, items: list[Any]) -> None:
        target = self.expect(list, _Inert)
        if type(target) is list:
            target.extend(items)

    def update(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise self.error("a key without a value")
        target = self.expect(dict, _Inert)
        if type(target) is dict:
            target.update((_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))

    def recall(self, index: int) -> Any:
        if index not in self.memo:
            raise self.error(f"memo {index} is empty")
        return self.memo[index]

    def name(self, module: object, attribute: object) -> _Name:
        name = f"{module}.{attribute}" if isinstance(module, str) and isinstance(attribute, str) else "?"
        if name not in _NAMES:
            raise self.error(
                f'names the Python object "{shown(name)}", which is never loaded: save model.state_dict() '
                "instead of a whole module or another object"
            )
        return _Name(name)

    def call(self, function: object, arguments: object) -> object:
        """Stand in for a call: return a dict, a tensor's description, or an inert object."""
        if not isinstance(function, _Name) or type(arguments) is not tuple:
            raise self.error(f"calls {_kind(function)} with {_kind(arguments)}")
        name = function.name
        if name in _DICTS:  # filled by SETITEMS; a defaultdict is called with its factory
            return {} if len(arguments) <= (name == "collections.defaultdict") else self.refuse(name)
        if name == "torch.Size":
            return arguments[0] if len(arguments) == 1 else self.refuse(name)
        if name == _FROM_TYPE and len(arguments) == 4 and type(arguments[2]) is tuple:
            inner = arguments[0]
            return self.tensor(inner.name if isinstance(inner, _Name) else name, arguments[2])
        if name in _INERT:
            return _Inert()
        return self.tensor(name, arguments)

    def tensor(self, name: str, arguments: tuple[Any, ...]) -> _View:
        if name in _UNREAD_TENSORS:
            return _View(None, None, None, None, unread=_UNREAD_TENSORS[name])
        if name in _PARAMETERS and arguments and isinstance(arguments[0], _View):
            return arguments[0]
        match name.rpartition("_rebuild_")[2], arguments:
            case "tensor_v2", (storage, offset, shape, strides, _, _, *flags) if len(flags) <= 1:
                return _View(storage, offset, shape, strides, None, *flags)
            case "tensor_v3", (storage, offset, shape, strides, _, _, dtype, *flags) if len(flags) <= 1:
                return _View(storage, offset, shape, strides, dtype, *flags)
            case "qtensor", (storage, offset, shape, strides, _, _, _):
                return _View(storage, offset, shape, strides)
        self.refuse(name)

    def refuse(self, name: str) -> NoReturn:
        raise self.error(f"calls {name} with other arguments than torch.save writes")

    def storage(self, ident: object) -> _Storage:
        match ident:
            case ("storage", _Name(name=name), str(key), str(), int(count)) if (
                type(ident) is tuple and name in _STORAGES and type(count) is int and count >= 0
            ) and len(key) <= MAX_NAME:
                return _Storage(_STORAGES[name], key, count)
        raise self.error("a persistent id names no storage as torch.save writes it")


def _key(key: object) -> object:
    """A key that is safe to hash: deep tuples overflow the C stack, huge numbers can be made to collide."""
    if type(key) is int and key.bit_length() > MAX_KEY_BITS:
        return _Inert()
    return key if key is None or type(key) in (str, int, float, bool, bytes) else _Inert()


def _kind(value: object) -> str:
    """Name the kind of a value from a pickle, for messages. Its content is hidden: it may be anything."""
    if isinstance(value, _Name):
        return value.name
    if isinstance(value, _View):
        return "a tensor"
    if isinstance(value, _Storage | _Inert):
        return "an object"
    return "None" if value is None else f"a {type(value).__name__}"


def _opcode_name(opcode: bytes) -> str:
    import pickletools  # for its table of names

    info = {entry.code: entry.name for entry in pickletools.opcodes}.get(opcode.decode("latin-1"))
    return info or f"0x{opcode.hex()}"


def _pick(reader: Reader, value: object, key: str | None) -> list[tuple[str, _View]]:
    """The names and tensors of the weights in a checkpoint."""
    if key is not None:
        value = _walk(reader, value, key)
        if key == "":
            return _named(reader, value, "")
    where = f"{key}: " if key else ""
    for _ in range(MAX_LEVELS):
        value = _dict(reader, value, where)
        if "param_groups" in value and "state" in value:
            raise reader.error(f"{where}got the state of an optimiser, expected weights")
        dicts = {name: part for name, part in value.items() if type(part) is dict and _may_be_weights(name)}
        sets = _with_tensors(dicts)
        known = next((name for name in STATE_DICT_KEYS if name in sets), None)
        own = any(isinstance(part, _View) for part in value.values())
        if known is not None:
            value = sets[known]
        elif not sets and (own or not value):
            return _named(reader, value, where)
        elif len(sets) == 1 and not own:
            (value,) = sets.values()
        elif sets and not own and len(sets) == len(value):
            return _flattened(reader, sets, where)
        elif sets:
            names = ", ".join(shown(str(name)) for name in list(sets)[:20])
            top = ', or key="" for the tensors beside them' if own and not key else ""
            raise reader.error(
                f"{where}holds several sets of weights: choose one of them with key=: {names}{top}"
            )
        else:
            deeper = next((name for name in STATE_DICT_KEYS if name in dicts), None)
            if deeper is None and len(dicts) == 1:
                (deeper,) = dicts
            if deeper is None:
                names = ", ".join(shown(str(name)) for name in list(value)[:20])
                raise reader.error(f"{where}holds no tensors, expected weights; its keys are {names}")
            value = dicts[deeper]
    raise reader.error(f"{where}the weights lie more than {MAX_LEVELS} dicts deep: name their dict with key=")


def _may_be_weights(name: object) -> bool:
    return not (isinstance(name, str) and any(word in name for word in _NOT_WEIGHTS))


def _with_tensors(dicts: dict[Any, Any]) -> dict[Any, Any]:
    """The dicts that hold tensors themselves. Each is searched once, however many names it has."""
    verdicts: dict[int, bool] = {}
    for part in dicts.values():
        if id(part) not in verdicts:
            verdicts[id(part)] = any(isinstance(value, _View) for value in part.values())
    return {name: part for name, part in dicts.items() if verdicts[id(part)]}


def _walk(reader: Reader, value: object, key: str) -> object:
    """Follow a dotted key through the dicts. A name that itself has dots comes first."""
    rest = key
    while rest:
        parts = value if isinstance(value, dict) else {}
        names = {str(name): name for name in parts if type(name) in (str, int)}
        heads = [rest, *(rest[:i] for i in range(len(rest)) if rest[i] == ".")]
        head = next((head for head in heads if head in names), None)
        if head is None:
            listed = ", ".join(shown(name) for name in list(names)[:20]) or "nothing"
            raise reader.error(f"key: got {shown(rest)!r}, expected one of {listed}")
        value, rest = parts[names[head]], rest[len(head) + 1 :]
    return value


def _named(reader: Reader, value: object, where: str) -> list[tuple[str, _View]]:
    """The tensors of one dict. Its other values are no weights."""
    views = [(name, part) for name, part in _dict(reader, value, where).items() if isinstance(part, _View)]
    for name, _ in views:
        if not isinstance(name, str):
            raise reader.error(f"{where}a tensor is named {shown(str(name))}, expected a string")
    return views


def _flattened(reader: Reader, sets: dict[Any, Any], where: str) -> list[tuple[str, _View]]:
    """The tensors of several dicts, under dotted names. One dict may occur often, so count first."""
    count = sum(map(len, sets.values()))
    if count > MAX_TENSORS:
        raise reader.error(
            f"{where}got sets of weights with {count} tensors in all, expected at most {MAX_TENSORS}"
        )
    own: dict[int, int] = {}  # characters of a dict's names, by its identity
    for part in sets.values():
        if id(part) not in own:
            own[id(part)] = sum(len(inner) for inner in part if isinstance(inner, str))
    total = sum(len(part) * (len(str(name)) + 1) + own[id(part)] for name, part in sets.items())
    limit = MAX_NAMES + reader.size
    if max(len(str(name)) for name in sets) > MAX_NAME or total > limit:
        raise reader.error(
            f"{where}the dotted names of all sets of weights have {total} characters, expected at most "
            f"{limit}, and at most {MAX_NAME} in a set's own name"
        )
    return [
        (f"{name}.{inner}", view)
        for name, part in sets.items()
        for inner, view in _named(reader, part, where)
    ]


def _dict(reader: Reader, value: object, where: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise reader.error(f"{where}got {_kind(value)}, expected a dict of tensors, as of model.state_dict()")
    return value


SOURCE = Source("PyTorch", (".pt", ".pth"), matches, read)
