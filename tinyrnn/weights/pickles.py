"""The pickles in PyTorch's files, read without running anything.

The interpreter below reads the pickle, not Python's. It handles the opcodes of pickle's protocols 2 to 5. It
imports nothing and calls nothing: a name is a token. Those that rebuild tensors, storages and dicts, on a
closed list, build our own descriptions of them. A call of any other name gives an :class:`Object` that keeps
the name, the arguments and the state, and does nothing. The interpreter does not recurse, and each opcode
makes at most one small object, so a file costs memory in proportion to its size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from tinyrnn.errors import LoadError
from tinyrnn.weights.spec import MAX_NAME, READ, UNREAD_BITS, Reader, bits_of, shown

MAX_PICKLE = 64 << 20  # bytes
MAX_OPCODES = 1_500_000  # about 35 for each tensor
MAX_OBJECTS = 180_000  # dicts, lists, sets and objects that are no tensors, which cost the most memory
MAX_KEY_BITS = 64  # of a number that is a dict key: larger ones can be made to collide
MAX_WORD = 256  # characters of a module's or an attribute's name: names are joined
SHORT = 64  # characters of a text that is compared in no time
BLOCK = 1 << 16  # bytes that are read ahead where the end of a pickle is not known

_DICTS = {"collections.OrderedDict", "collections.defaultdict"}
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
# Files from before 1.6 have the class of the storage's device, torch.cuda.FloatStorage.
_STORAGES |= {name.replace("torch.", "torch.cuda.", 1): dtype for name, dtype in _STORAGES.items() if dtype}
DTYPES = {f"torch.{name}": name for name in (*READ, *UNREAD_BITS) if bits_of(name) >= 8}
_STRIDED = {f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3", "qtensor")}
_PARAMETERS = {f"torch._utils._rebuild_{kind}" for kind in ("parameter", "parameter_with_state")}
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_UNREAD_TENSORS = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without data (device meta)",
    "torch._utils._rebuild_wrapper_subclass": "a wrapped tensor",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
    "torch._utils._rebuild_xla_tensor": "a tensor of another device",
}
_REBUILT = {_FROM_TYPE}.union(_STRIDED, _PARAMETERS, _UNREAD_TENSORS)
# Classes of which a call with a tensor is that tensor, as Python 2 pickled them and subclasses still are.
_WRAPPERS = {
    "torch.Tensor",
    "torch._tensor.Tensor",
    "torch.autograd.variable.Variable",
    "torch.nn.parameter.Buffer",
    "torch.nn.parameter.Parameter",
}
# Calls that stand for their first argument.
_PASSED_ON = ("torch.Size", "torch.jit._pickle.")

_Text = TypeVar("_Text", str, bytes)


@dataclass(eq=False, slots=True)
class Name:
    """A module's attribute, by name only."""

    name: str


@dataclass(eq=False, slots=True)
class Object:
    """An object of a class or function that is only a name: never called, never looked up.

    Attributes
    ----------
    name : str
        Of its class or function, with the module.
    arguments : tuple
        Those of the call.
    state : object
        The attributes as the pickle gives them, mostly a dict.
    items : dict or None
        The entries of a subclass of dict.
    members : list
        The members of a set.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] | None = None
    members: list[Any] | tuple[()] = ()

    def attributes(self) -> dict[Any, Any]:
        """The attributes by name, empty if the pickle gives them in another form."""
        slots = self.state if type(self.state) is tuple and len(self.state) == 2 else (self.state,)
        return next((part for part in slots if type(part) is dict), {})


@dataclass(eq=False, slots=True)
class Storage:
    """`count` numbers from `begin` on, of the `whole` numbers that the file has under `key`.

    Where `dtype` is empty each tensor has its own, and the numbers are bytes.
    """

    dtype: str
    key: str
    count: int
    begin: int
    whole: int

    @property
    def unit(self) -> int:
        """Bytes of a number."""
        return bits_of(self.dtype) // 8 if self.dtype else 1


@dataclass(eq=False, slots=True)
class View:
    """A tensor as the pickle describes it. It is checked once it has a name, so that an error can say it."""

    storage: object
    offset: object
    shape: object
    strides: object
    dtype: object = None
    flags: object = None
    quantizer: object = None
    unread: str = ""
    packed: bool = False  # a quantised layer's weight: its codes are kept


_CALLED = (Name, Object)  # a union would be made anew by each call


class Pickle:
    """An interpreter of pickle protocols 2 to 5, without what runs code.

    Parameters
    ----------
    reader : Reader
        The file, for errors.
    what : str
        The name of the pickle in errors.
    data : bytes
        Its bytes, or the first of them.
    more : callable, optional
        `more(count)` gives the bytes that follow, at most as many; fewer at the end of the file. Without it
        the pickle must end with `data`.
    """

    def __init__(
        self, reader: Reader, what: str, data: bytes, more: Callable[[int], bytes] | None = None
    ) -> None:
        self.reader = reader
        self.what = what
        self.data = data
        self.more = more
        self.dropped = 0  # bytes before `data`, which were read
        self.at = 0
        self.opcode_at = 0  # where the current opcode begins in `data`, below 0 if it was dropped
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.base = 0  # the last mark: what lies below it cannot be taken
        self.memo: dict[int, Any] = {}
        self.texts: dict[Any, Any] = {}
        self.names: dict[tuple[str, str], Name] = {}
        self.storages: dict[str, Storage] = {}  # the first of each key
        self.pairs: dict[int, tuple[object, dict[Any, Any]]] = {}  # by the identity of their list
        self.made = 0  # dicts, lists, sets and objects

    @property
    def reached(self) -> int:
        """The number of bytes that were read."""
        return self.dropped + self.at

    @property
    def begin(self) -> int:
        """The place of the current opcode in the pickle."""
        return self.dropped + self.opcode_at

    def error(self, text: str) -> LoadError:
        return self.reader.error(f"{self.what}, byte {self.begin}: {text}")

    def ahead(self, count: int) -> int:
        """The number of bytes that can be read, at most `count` if there are as many."""
        left = len(self.data) - self.at
        if left < count and self.more is not None:
            if self.reached + count > MAX_PICKLE:
                raise self.error(f"has more than {MAX_PICKLE} bytes, expected at most as many")
            self.data = self.data[self.at :] + self.more(max(count - left, BLOCK))
            self.opcode_at -= self.at
            self.dropped, self.at = self.reached, 0
            left = len(self.data)
        return min(left, count)

    def skip(self, count: int) -> int:
        """Step over the next bytes, which must be there, and return the place of the first in `data`."""
        if self.at + count > len(self.data):
            left = self.ahead(count)
            if left < count:
                raise self.error(f"needs {count} more bytes, but {left} are left")
        begin = self.at
        self.at = begin + count
        return begin

    def take(self, count: int) -> bytes:
        begin = self.skip(count)
        return self.data[begin : begin + count]

    def text(self, raw: bytes) -> str:
        try:
            return self.unique(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise self.error("a string is not UTF-8") from None

    def old_text(self, raw: bytes) -> str | bytes:
        """Python 2's str, which may hold bytes."""
        try:
            return self.unique(raw.decode("utf-8"))
        except UnicodeDecodeError:
            return self.unique(raw)

    def unique(self, text: _Text) -> _Text:
        """The first of equal strings, so that comparing keys goes through two long ones only once."""
        return text if len(text) <= SHORT else self.texts.setdefault(text, text)

    def line(self) -> str:
        self.ahead(MAX_WORD)
        stop = self.data.find(b"\n", self.at, self.at + MAX_WORD)
        if stop < 0:
            raise self.error("a name has no end")
        return self.text(self.take(stop + 1 - self.at)[:-1])

    def pop(self) -> Any:
        value = self.top()
        del self.stack[-1]
        return value

    def top(self) -> Any:
        if len(self.stack) <= self.base:
            raise self.error("takes more from the stack than it holds")
        return self.stack[-1]

    def popped(self, count: int) -> tuple[Any, ...]:
        """The values at the top of the stack, the lowest first."""
        begin = len(self.stack) - count
        if begin < self.base:
            raise self.error("takes more from the stack than it holds")
        items = tuple(self.stack[begin:])
        del self.stack[begin:]
        return items

    def mark(self) -> None:
        self.base = len(self.stack)
        self.marks.append(self.base)

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("needs a mark, but the stack has none")
        begin = self.marks.pop()
        self.base = self.marks[-1] if self.marks else 0
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def run(self) -> object:
        """Run the opcodes and return the pickled object. An opcode that is not listed below is an error."""
        stack, memo, push = self.stack, self.memo, self.stack.append
        data, safe = b"", 0
        for _ in range(MAX_OPCODES):  # a tensor takes about 35, so the commonest come without a call
            if data is not self.data or self.at >= safe:
                self.ahead(LONGEST)
                data, safe = self.data, len(self.data) - LONGEST
            self.opcode_at = at = self.at
            opcode = data[at] if at < safe else data[self.skip(1)]
            length, unpack, pushes, function = _OPCODES[opcode]
            self.at = at = at + length
            if length == 1:
                if opcode == _STOP:
                    break
                value = function(self)
            else:
                if at > len(data):
                    self.at -= length
                    self.skip(length)
                value = data[at - 1] if length == 2 else unpack(data, at + 1 - length)[0]
                if function is _remember and len(stack) > self.base:
                    memo[value] = stack[-1]
                    continue
                if function is not None:
                    value = function(self, value)
            if pushes:
                push(value)
        else:
            raise self.error(f"expected at most {MAX_OPCODES} opcodes")
        value = self.pop()
        if self.stack or self.marks or (self.more is None and self.at != len(self.data)):
            raise self.error("data is left over after the end")
        return value

    def new(self, thing: Any) -> Any:
        """Count a new dict, list, set or object."""
        self.made += 1
        if self.made > MAX_OBJECTS:
            raise self.error(f"expected at most {MAX_OBJECTS} dicts, lists, sets and objects")
        return thing

    def unknown(self) -> NoReturn:
        import pickletools  # for its table of names

        opcode = self.data[self.at - 1]
        names = {entry.code: entry.name for entry in pickletools.opcodes}
        name = names.get(chr(opcode), f"0x{opcode:02x}")
        raise self.error(f"got opcode {name}, which torch.save does not write")

    def protocol(self, number: int) -> None:
        if self.begin or not 2 <= number <= 5:
            raise self.error("expected protocol 2 to 5, once, at the beginning")

    def frame(self, count: int) -> None:
        if self.more is None and count > len(self.data) - self.at:
            raise self.error("a frame runs past the end")

    def build(self) -> None:
        state = self.pop()
        target = self.expect(dict, View, Object)
        if type(target) is Object:
            target.state = state

    def add(self, members: list[Any]) -> None:
        target = self.expect(Object).members
        if type(target) is list:
            target.extend(members)

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def long(self, count: int) -> Object:
        """A number of more than 255 bytes, which is no weight."""
        self.skip(count)
        return Object("int")

    def expect(self, *kinds: type) -> Any:
        value = self.top()
        if type(value) not in kinds:
            raise self.error(f"the opcode does not apply to {kind_of(value)}")
        return value

    def extend(self, items: list[Any]) -> None:
        target = self.expect(list, Object)
        if type(target) is list:
            target.extend(items)

    def update(self, items: Sequence[Any]) -> None:
        if len(items) % 2:
            raise self.error("a key without a value")
        target = self.expect(dict, Object)
        if type(target) is Object:
            target.items = target.items or {}
            target = target.items
        target.update((_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))

    def recall(self, index: int) -> Any:
        try:
            return self.memo[index]
        except KeyError:
            raise self.error(f"memo {index} is empty") from None

    def name(self, module: object, attribute: object) -> Name:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise self.error(f"names an object by {kind_of(module)} and {kind_of(attribute)}")
        if max(len(module), len(attribute)) > MAX_WORD:
            raise self.error(f"the name of an object has more than {MAX_WORD} characters")
        words = module, attribute
        if words not in self.names:
            self.names[words] = Name(f"{module}.{attribute}")
        return self.names[words]

    def call(self, function: object, arguments: object) -> object:
        """Stand in for a call: return a dict, a tensor's description, or an object that does nothing."""
        if not isinstance(function, _CALLED) or type(arguments) is not tuple:
            raise self.error(f"calls {kind_of(function)} with {kind_of(arguments)}")
        name, first = function.name, arguments[0] if arguments else None
        if name in _DICTS:  # filled by SETITEMS; a defaultdict is called with its factory
            if type(first) is list and len(arguments) == 1:
                return self.paired(first)
            return (
                self.new({}) if len(arguments) <= (name == "collections.defaultdict") else self.refuse(name)
            )
        if name.startswith(_PASSED_ON):
            return first if arguments else self.refuse(name)
        if name in _WRAPPERS and isinstance(first, View):
            return first
        if name == _FROM_TYPE and len(arguments) == 4 and type(arguments[2]) is tuple:
            return self.tensor(first.name if isinstance(first, Name) else name, arguments[2])
        if name in _REBUILT:
            return self.tensor(name, arguments)
        if name in _STORAGES:
            self.refuse(name)
        if name.startswith("copyreg.") or name == "copy_reg._reconstructor":
            name = first.name if isinstance(first, Name) else name
        members = first if type(first) is list and name.endswith((".set", ".frozenset")) else ()
        return self.new(Object(name, arguments, members=members))

    def paired(self, pairs: list[Any]) -> dict[Any, Any]:
        """The dict of a list of pairs, as Python 2 pickled an OrderedDict. A list gives one dict."""
        if id(pairs) not in self.pairs:
            if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
                self.refuse("collections.OrderedDict")
            self.pairs[id(pairs)] = pairs, {_key(key): value for key, value in pairs}
        return self.pairs[id(pairs)][1]

    def tensor(self, name: str, arguments: tuple[Any, ...]) -> View:
        if name in _UNREAD_TENSORS:
            return View(None, None, None, None, unread=_UNREAD_TENSORS[name])
        if name in _PARAMETERS and arguments and isinstance(arguments[0], View):
            return arguments[0]
        match name.rpartition("_rebuild_")[2], arguments:
            case "tensor", (storage, offset, shape, strides):
                return View(storage, offset, shape, strides)
            case "tensor_v2", (storage, offset, shape, strides, _, _, *flags) if len(flags) <= 1:
                return View(storage, offset, shape, strides, None, *flags)
            case "tensor_v3", (storage, offset, shape, strides, _, _, dtype, *flags) if len(flags) <= 1:
                return View(storage, offset, shape, strides, dtype, *flags)
            case "qtensor", (storage, offset, shape, strides, quantizer, _, _):
                return View(storage, offset, shape, strides, quantizer=quantizer)
        self.refuse(name)

    def refuse(self, name: str) -> NoReturn:
        raise self.error(f"calls {shown(name)} with other arguments than torch.save writes")

    def persistent(self, ident: object) -> object:
        """Resolve a persistent id: a storage, a class beside its source, or a call of a package's module."""
        match ident:
            case ("storage", kind, int(number), *rest) if type(ident) is tuple and type(number) is int:
                if 0 <= number < 1 << MAX_KEY_BITS:  # of torch.package
                    return self.persistent(("storage", kind, str(number), *rest))
            case ("reduce_package", _, Name() as function, tuple() as arguments) if type(ident) is tuple:
                return self.new(Object(function.name, arguments))
            case ("storage", Name(name=name), str(key), str(), int(count), *view) if (
                type(ident) is tuple and name in _STORAGES and type(count) is int and count >= 0
            ) and len(key) <= MAX_NAME:
                dtype = _STORAGES[name]
                whole = Storage(dtype, key, count, 0, count)
                self.storages.setdefault(key, whole)
                match view:
                    case [] | [None]:
                        return whole
                    case [(str(), int(begin), int(size))] if (
                        type(begin) is int and type(size) is int and min(begin, size) >= 0
                    ):
                        return Storage(dtype, key, size, begin, count)
            case ("module", Name() as kind, *_) if type(ident) is tuple:
                return kind
        raise self.error("a persistent id names no storage as torch.save writes it")


def _called(pickle: Pickle, *, keywords: bool = False) -> object:
    """Call the function below its arguments; keywords above them are left out."""
    function, arguments, *_ = pickle.popped(2 + keywords)
    return pickle.call(function, arguments)


# What an opcode pushes: what its function makes of the pickle and of the number that follows it, or that
# number itself.
_VALUES: tuple[tuple[bytes, str, Any], ...] = (
    (b"N", "", lambda p: None),  # NONE
    (b"\x88", "", lambda p: True),  # NEWTRUE
    (b"\x89", "", lambda p: False),  # NEWFALSE
    (b"K", "B", None),  # BININT1
    (b"M", "H", None),  # BININT2
    (b"J", "i", None),  # BININT
    (b"\x8a", "B", lambda p, n: int.from_bytes(p.take(n), "little", signed=True)),  # LONG1
    (b"\x8b", "I", Pickle.long),  # LONG4
    (b"G", ">d", None),  # BINFLOAT
    (b"X", "I", lambda p, n: p.text(p.take(n))),  # BINUNICODE
    (b"\x8c", "B", lambda p, n: p.text(p.take(n))),  # SHORT_BINUNICODE
    (b"\x8d", "Q", lambda p, n: p.text(p.take(n))),  # BINUNICODE8
    (b"T", "I", lambda p, n: p.old_text(p.take(n))),  # BINSTRING
    (b"U", "B", lambda p, n: p.old_text(p.take(n))),  # SHORT_BINSTRING
    (b"B", "I", lambda p, n: p.unique(p.take(n))),  # BINBYTES
    (b"C", "B", lambda p, n: p.unique(p.take(n))),  # SHORT_BINBYTES
    (b"\x8e", "Q", lambda p, n: p.unique(p.take(n))),  # BINBYTES8
    (b"\x96", "Q", lambda p, n: p.unique(p.take(n))),  # BYTEARRAY8
    (b")", "", lambda p: ()),  # EMPTY_TUPLE
    (b"\x85", "", lambda p: p.popped(1)),  # TUPLE1
    (b"\x86", "", lambda p: p.popped(2)),  # TUPLE2
    (b"\x87", "", lambda p: p.popped(3)),  # TUPLE3
    (b"t", "", lambda p: tuple(p.pop_mark())),  # TUPLE
    (b"]", "", lambda p: p.new([])),  # EMPTY_LIST
    (b"}", "", lambda p: p.new({})),  # EMPTY_DICT
    (b"\x8f", "", lambda p: p.new(Object("set", members=[]))),  # EMPTY_SET
    (b"\x91", "", lambda p: p.new(Object("frozenset", members=p.pop_mark()))),  # FROZENSET
    (b"h", "B", Pickle.recall),  # BINGET
    (b"j", "I", Pickle.recall),  # LONG_BINGET
    (b"c", "", lambda p: p.name(p.line(), p.line())),  # GLOBAL
    (b"\x93", "", lambda p: p.name(*p.popped(2))),  # STACK_GLOBAL
    (b"R", "", _called),  # REDUCE
    (b"\x81", "", _called),  # NEWOBJ
    (b"\x92", "", lambda p: _called(p, keywords=True)),  # NEWOBJ_EX
    (b"Q", "", lambda p: p.persistent(p.pop())),  # BINPERSID
)
# The effect of an opcode that pushes nothing.
_ACTIONS: tuple[tuple[bytes, str, Any], ...] = (
    (b"(", "", Pickle.mark),  # MARK
    (b"a", "", lambda p: p.extend([p.pop()])),  # APPEND
    (b"e", "", lambda p: p.extend(p.pop_mark())),  # APPENDS
    (b"s", "", lambda p: p.update(p.popped(2))),  # SETITEM
    (b"u", "", lambda p: p.update(p.pop_mark())),  # SETITEMS
    (b"\x90", "", lambda p: p.add(p.pop_mark())),  # ADDITEMS
    (b"q", "B", Pickle.remember),  # BINPUT
    (b"r", "I", Pickle.remember),  # LONG_BINPUT
    (b"\x94", "", lambda p: p.remember(len(p.memo))),  # MEMOIZE
    (b"b", "", Pickle.build),  # BUILD
    (b"\x80", "B", Pickle.protocol),  # PROTO
    (b"\x95", "Q", Pickle.frame),  # FRAME
    (b"0", "", Pickle.pop),  # POP
    (b"1", "", Pickle.pop_mark),  # POP_MARK
)


def _row(code: str, pushes: bool, function: Any) -> tuple[int, Callable[..., Any], bool, Any]:
    """Length of an opcode with its number, the number's reader, and whether the result is pushed."""
    number = struct.Struct("<" * (code[:1] != ">") + code)
    return 1 + number.size, number.unpack_from, pushes, function


# By the opcode's byte.
_OPCODES = [_row("", False, Pickle.unknown)] * 256
for _rows in (_VALUES, _ACTIONS):
    for _opcode, _code, _function in _rows:
        _OPCODES[_opcode[0]] = _row(_code, _rows is _VALUES, _function)
LONGEST = max(length for length, *_ in _OPCODES)
_STOP = ord(".")
_remember = Pickle.remember


def _key(key: object) -> object:
    """A key that is safe to hash: deep tuples overflow the C stack, huge numbers can be made to collide."""
    if type(key) is int and key.bit_length() > MAX_KEY_BITS:
        return Object("int")
    return key if key is None or type(key) in (str, int, float, bool, bytes) else Object("key")


def kind_of(value: object) -> str:
    """Name the kind of a value from a pickle, for messages. Its content is hidden: it may be anything."""
    if isinstance(value, Name | Object):
        return shown(value.name)
    if isinstance(value, View):
        return "a tensor"
    if isinstance(value, Storage):
        return "a storage"
    return "None" if value is None else f"a {type(value).__name__}"
