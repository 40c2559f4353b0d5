"""The walk through the code of an archive of TorchScript: what it does with tensors becomes nodes.

Each value is a number, a list or the name of a tensor, whose shape follows by `shapes.SHAPES`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.importing import WRONG, CodedArray, Unfit
from tinyrnn.modules import program
from tinyrnn.modules.code import Text, fields_of, functions_of
from tinyrnn.modules.functions import FUNCTIONS, KINDS, UNKNOWN, named
from tinyrnn.modules.program import MAKES, Node, Program, Slot, unwritten
from tinyrnn.modules.quantised import QUANTISED
from tinyrnn.modules.recorder import MOST_OPS, Given, Op, Record, convolution, flat, function, leaves, mapped
from tinyrnn.modules.shapes import SHAPES, Clash, Shape, shapes_of
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.packed import tensors_of
from tinyrnn.weights.pickles import Object, View
from tinyrnn.weights.pytorch import Exported, Scripted
from tinyrnn.weights.spec import MAX_NAME, MEMORY_FLOOR, Array, Tensor, shown

FUEL = 400_000  # parts of statements that all walks through a file may take, and entries of lists
FUEL_OF_OP = 15
MAX_TOKENS = 64_000  # of all code that is read, each of which takes 800 bytes
MAX_CALLS = 60  # of functions within functions

DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64"}
DTYPES |= {11: "bool", 15: "bfloat16"}
COMPARES = ("eq", "ne", "lt", "le", "gt", "ge")
TRUTHS = (*COMPARES, "logical_not", "logical_and", "logical_or", "isnan", "any", "all")
FLOATS = ("div", "exp", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid")
# The other names of functions; parts of `unsafe_chunk` may be written into, so `unwritten` sees that name.
ALIKE = {"unsafe_chunk": "chunk", "unsafe_split": "split", "numpy_T": "T", "lift_fresh": "detach"}
LISTS = {"chunk", "split", "split_with_sizes", "unbind", "tensor_split"}  # operations that return a list
MUTE = ("dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking")
BUILTINS = {"int": "Int", "float": "Float", "bool": "Bool", "str": "str", "len": "len"}
PACKS = "packs a sequence by lengths, expected none in a file: use tinyrnn.from_torch"
WORDS = {"inf": math.inf, "nan": math.nan}


class Raised(Unfit):
    """The code raises an error of its own; ``pair``: what it compared at last."""

    def __init__(self, text: str, pair: tuple[Any, Any]) -> None:
        super().__init__(text)
        self.pair = pair


class Path(NamedTuple):
    """A dotted name of the code, such as ``torch.add``."""

    name: str


class Module:
    """An object of a class of the code: a module, and its attributes as the calls so far have set them."""

    def __init__(self, path: str, kind: str, own: dict[Any, Any]) -> None:
        self.path, self.kind, self.own = path, kind, own
        self.attributes: dict[str, Any] = {}
        self.calls: dict[str, int] = {}  # the call that wrote an attribute


class Returned(Exception):
    """The end of a function."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Row(tuple[Any, ...]):
    """A named tuple."""

    fields: Sequence[str] = ()

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self.fields, self, strict=False))


# ---- numbers and lists -------------------------------------------------------------------------------------


def _power(a: Any, b: Any) -> Any:
    if abs(b) > 64:
        raise Unfit("computes a number that is too large")
    return a**b


def _divided(a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    return a / b if rounding_mode is None else int(a / b) if rounding_mode == "trunc" else a // b


# Functions of numbers and lists; those that take tensors beside lists stand in `ALWAYS`.
PLAIN: dict[str, Callable[..., Any]] = {
    **{one: getattr(operator, one) for one in (*COMPARES, "add", "sub", "mul", "neg")},
    **{one: getattr(operator, one) for one in ("__and__", "__or__", "__contains__", "__getitem__")},
    **{"__is__": operator.is_, "__isnot__": operator.is_not, "__not__": operator.not_},
    **{one.__name__: one for one in (abs, len, any, all, round, min, max, list, dict, math.floor, math.ceil)},
    **{one.__name__: one for one in (math.sqrt, math.exp, math.log)},
    **named("floordiv floor_divide", operator.floordiv),
    "div": _divided,
    "remainder": operator.mod,
    "rsub": lambda a, b, alpha=1: b - a,
    "pow": _power,
    "append": lambda a, b: a.append(b),
    **named("extend add_", operator.iadd),
    "insert": list.insert,
    "pop": lambda a, i=-1: a.pop(i),
    "reverse": list.reverse,
    "slice": lambda a, start=None, end=None, step=1: a[start:end:step],
    "_set_item": operator.setitem,
    **named("select TupleIndex", operator.getitem),
    **named("copy keys", list),
    "values": lambda a: list(a.values()),
    "items": lambda a: list(a.items()),
    "__range_length": lambda start, stop, step: len(range(start, stop, step)),
    "__derive_index": lambda i, start, step: start + i * step,
    **{"Int": int, "IntImplicit": int, "Float": float, "FloatImplicit": float},
    **named("Bool is_nonzero", bool),
    **named(
        "NumToTensor to detach tensor scalar_tensor unchecked_unwrap_optional data ScalarImplicit alias "
        "clone type_as contiguous cpu Scalar item",
        lambda a, *_, **__: a,
    ),
}
ALWAYS = {"__is__", "__isnot__", "append", "insert", "_set_item", "unchecked_unwrap_optional"}
TEXTUAL = {*ALWAYS, *COMPARES, "__contains__", "len", "list"}  # that take texts, too
# What the code asks of a tensor's shape and dtype.
TOLD: dict[str, Callable[..., Any]] = {
    **named("size sym_size shape", lambda x, axis=None: list(x.shape) if axis is None else x.shape[axis]),
    **named("dim ndim", lambda x: len(x.shape)),
    "len": lambda x: x.shape[0],
    "numel": lambda x: math.prod(x.shape),
    "dtype": lambda x: next((code for code, one in DTYPES.items() if one == x.dtype), 6),
    "is_floating_point": lambda x: "float" in x.dtype,
}
# Functions that take the number of a tensor.
TAKEN = ["Int", "Float", "Bool", "item", "is_nonzero", "IntImplicit", "FloatImplicit", "ScalarImplicit"]
# Functions that tell nothing here.
SILENT = {
    **named("warn device layout set_grad_enabled type print memory_format", None),
    **named("format str", "a message"),
    "find": -1,  # in the name of a device
    **named("is_autocast_enabled is_autocast_cpu_enabled get_fastpath_enabled", False),
    **named("is_nested is_cuda is_quantized is_complex is_sparse is_mkldnn is_meta is_xla", False),
    # Attention has an operation of its own where no gradient is wanted.
    **named("is_scripting is_grad_enabled requires_grad", True),
}


# ---- the walk ----------------------------------------------------------------------------------------------


def _filling(args: list[Any]) -> tuple[str, list[Any]]:
    x, index, value, *adds = args
    if any(adds):
        raise Unfit("adds to parts of a tensor (accumulate=True), expected torch.cat or a sum")
    return "setitem", [x, tuple(slice(None) if one is None else one for one in index), value]


# Operations that are others, of their arguments.
REWRITTEN: dict[str, Callable[[list[Any]], tuple[str, list[Any]]]] = {
    "convolution": convolution,
    "convolution_mode": lambda args: (f"conv{len(args[3])}d", args),
    "frobenius_norm": lambda args: ("linalg_vector_norm", [args[0], 2, *args[1:]]),
    "index_put": _filling,
}


def _attention(walk: Walk, args: list[Any]) -> list[Any]:
    """``native_multi_head_attention``, which has the batch first; a trace without gradients has it."""
    mask, _, _, kind = [*args[9:], None, None, None, None][:4]
    if mask is not None and kind != 1:
        raise Unfit("has a mask of pairs of steps in a trace, expected one of steps: use torch.jit.script")
    steps_first = [walk.op("transpose", [one, 0, 1], {}) for one in args[:3]]
    unused = [None, None, False, 0.0]  # biases of keys and values, a zero, dropout
    found, weights = walk.op(
        "multi_head_attention_forward", [*steps_first, *args[3:7], *unused, *args[7:9], False, mask], {}
    )
    return [walk.op("transpose", [found, 0, 1], {}), weights]


def _encoder_layer(walk: Walk, args: list[Any]) -> Any:
    """``transformer_encoder_layer_fwd``, likewise."""
    x, width, heads, *attention = args[:7]
    gelu, first, eps, *rest = args[7:18]
    mask, kind = [*args[18:], None, None][:2]

    def normed(x: Any, place: int) -> Any:
        return walk.op("layer_norm", [x, [width], *rest[place : place + 2], eps], {})

    def attended(x: Any) -> Any:
        return _attention(walk, [x, x, x, width, heads, *attention, mask, False, True, kind])[0]

    def fed(x: Any) -> Any:
        inner = walk.op("gelu" if gelu else "relu", [walk.op("linear", [x, *rest[4:6]], {})], {})
        return walk.op("linear", [inner, *rest[6:8]], {})

    for place, part in ((0, attended), (2, fed)):
        if first:
            x = walk.op("add", [x, part(normed(x, place))], {})
        else:
            x = normed(walk.op("add", [x, part(x)], {}), place)
    return x


# Operations that are several.
COMPOSED: dict[str, Callable[[Walk, list[Any]], Any]] = {
    "_native_multi_head_attention": _attention,
    "_transformer_encoder_layer_fwd": _encoder_layer,
}


class Walk(Program):
    """A module of TorchScript, whose forward is walked through on inputs of some shapes.

    Parameters
    ----------
    file : WeightsFile
    given : mapping
        Numbers of arguments of the forward, by name.

    Attributes
    ----------
    looped : bool
        The module keeps states among its attributes, so it runs step by step over an axis of time.
    """

    # The inputs: dtypes by name, the arguments of the forward with their types.
    dtypes: dict[str, str]
    signature: list[tuple[str, str]]
    notes: list[tuple[Any, Any]]  # pairs that the code compared
    # A walk: the node that made a name, objects, names that inputs reach, or that are changed in place.
    makers: dict[str, Node]
    modules: dict[int, Module]
    varying: set[str]
    written: set[str]
    computed: dict[str, Array]
    number_of_call: int
    kept: bool  # an attribute of a module has been set
    stale: bool  # a call read what one before it set
    frames: list[tuple[Text, Any]]  # with the statement that each is at
    answers: dict[Any, tuple[str, set[bool]]]  # of conditions, with their lines
    compared: set[int]  # numbers of the code that it compares with others
    place: tuple[str, str]
    unknown: str  # the first operation that no layer has; it may be read by nothing

    def __init__(self, file: WeightsFile, given: Mapping[str, Any]) -> None:
        self.file, self.scripted = file, file.net
        assert isinstance(self.scripted, Scripted)
        self.exported = Exported({}, dict, dict)  # type: ignore[arg-type]
        self.budget = MEMORY_FLOOR + 16 * file.info.bytes
        self.given, self.records, self.orders = {}, {}, set()
        self.scales: dict[str, Tensor] = {}  # of codes
        self.left, self.looped = FUEL, False
        self.texts: dict[str, Text | None] = {}
        self.tokens = 0
        self.bound = dict(given)
        self.labels = self.scripted.names
        self.named = set(self.labels.values())
        self.nodes, self.shapes = [], {}

    # ---- calls ---------------------------------------------------------------------------------------------

    def interpreted(self, shapes: tuple[tuple[int, ...], ...], calls: int = 1) -> Record:
        """The record of a forward, or of several, on inputs of these shapes."""
        self.nodes, self.shapes, self.tensors, self.numbers = [], {}, {}, {}
        self.makers = {}
        self.modules = {}
        self.varying, self.written = set(self.inputs), set()
        self.number_of_call, self.kept, self.stale = 0, False, False
        self.frames, self.answers, self.compared = [], {}, set()
        self.unknown = ""
        self.computed = {}
        self.place = ("", "")
        for name, shape in zip(self.inputs, shapes, strict=True):
            self.shapes[name] = Shape(shape, self.dtypes[name])
        root = self.valued(self.scripted.module, "")
        given = [Slot(name) for name in self.inputs]
        try:
            for _ in range(calls):
                found = self.steps(root, given) if self.looped else self.forward(root, given)
            if not isinstance(found, (tuple, list, Mapping)):
                found = {"output": found}
            self.weigh(found)
            self.outputs = {path: one for path, one in leaves(found) if isinstance(one, Slot)}
            left = unwritten(self.nodes, self.outputs, {*self.tensors, *self.inputs})
            self.nodes = [node._replace(op=ALIKE.get(node.op, node.op)) for node in left]
            return self.recorded({})
        except Unfit as error:
            where, path = self.place
            if self.unknown and not isinstance(error, (Clash, Raised)):
                raise Unfit(f"{self.unknown}: {UNKNOWN}") from None
            if where and not re.match(r"\S+:\d+( \(\S+\))?: ", error.args[0]):
                error.args = (f"{where}: {path + ': ' if path else ''}{error}",)
            raise

    def forward(self, root: Module, given: list[Slot]) -> Any:
        """A call."""
        args, rest = dict(self.bound), iter(given)
        for name, kind in self.signature:
            args[name] = (
                next(rest) if "Tuple" not in kind else tuple(next(rest) for _ in range(kind.count("Tensor")))
            )
        found = self.method(root, "forward", [], args)
        self.number_of_call += 1
        return found

    def steps(self, root: Module, given: list[Slot]) -> Any:
        """A call for each step."""
        found = []
        for step in range(self.shapes[given[0].name].shape[1]):
            self.place = ("", "")
            found.append(self.forward(root, [self.op("select", [one, 1, step], {}) for one in given]))
        if isinstance(found[0], tuple):
            return tuple(self.op("stack", [list(one), 1], {}) for one in zip(*found, strict=True))
        return self.op("stack", [found, 1], {})

    # ---- tensors -------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> Given:
        found = super().tensor(name)
        if name in self.scales and not isinstance(found.array, CodedArray):
            column = self.scales[name].array().reshape(-1, 1)
            found = self.given[name] = Given(CodedArray(found.array, column, np.zeros_like(column)), name)
        return found if name in self.named else Given(found.array, "")

    def added(self, made: Tensor, name: str, scale: Tensor | None = None) -> Slot:
        """A tensor of the file; with a scale for each row, if it has codes."""
        if name not in self.tensors:
            self.exported.tensors[name] = made
            if scale:
                self.scales[name] = scale
            self.tensors[name] = name
            self.shapes[name] = Shape(made.shape, "float32" if scale else made.dtype)
        return Slot(name)

    def constant(self, name: str) -> Any:
        """``CONSTANTS.c0`` and so on; a single number is one."""
        found = self.valued(self.scripted.constants[int(name.removeprefix("c"))], f"CONSTANTS.{name}")
        if not isinstance(found, Slot):
            return found
        shape = self.shapes[found.name]
        return found if shape.shape or "float" in shape.dtype else self.number(found)

    def valued(self, given: Any, path: str) -> Any:
        """A value of the file's pickle."""
        self.spend()
        match given:
            case View():
                name = self.labels.get(id(given)) or path
                made, *scale = self.scripted.tensors(name, given)
                return self.added(made, name, *scale)
            case Object() if (tensors := tensors_of(given)) is not None:
                return [self.valued(one, f"{path}.{i}") for i, one in enumerate(tensors)]
            case Object():
                if id(given) not in self.modules:
                    own = given.attributes()
                    self.modules[id(given)] = Module(path, given.name, own)
                return self.modules[id(given)]
            case list() | tuple():
                return type(given)(self.valued(one, f"{path}.{i}") for i, one in enumerate(given))
            case dict():
                return {key: self.valued(one, f"{path}.{key}") for key, one in given.items()}
        return given

    def shape_of(self, one: Any) -> Any:
        return self.shapes[one.name] if isinstance(one, Slot) else one

    def op(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """An operation on tensors: a node, and the names of what it makes."""
        self.spend(FUEL_OF_OP)
        if len(self.nodes) >= MOST_OPS:
            raise Unfit(f"got more than {MOST_OPS} operations, expected a smaller module")
        writes = name[-1:] == "_" and name not in ("detach_", "dropout_")
        name = name.strip("_")
        if "packed_sequence" in name or "padded_sequence" in name:
            raise Unfit(PACKS)
        if "mkldnn" in name.lower():
            raise Unfit(
                "optimize_for_inference has put weights into a form that no file keeps, so PyTorch does not "
                "load it either: save torch.jit.freeze(module)"
            )
        if name in REWRITTEN:
            name, args = REWRITTEN[name](args)
        if not writes and (there := self.already(name, args)) is not None:
            return there
        known = mapped((args, kwargs), self.shape_of)
        if not any(name in one for one in (SHAPES, FUNCTIONS, MAKES)):
            self.unknown = self.unknown or f"{self.place[0]}: {name} of {self.place[1] or 'the module'}"
            if len({one.shape for one in flat(known) if isinstance(one, Shape)}) != 1:
                raise Unfit(UNKNOWN)  # no shape follows
        results, kind = [], self.kind_of(name, *known)
        for i, shape in enumerate(shapes_of(name, *known)):
            results.append(f"t{len(self.shapes)}")
            self.shapes[results[-1]] = Shape(shape, "int64" if i and name in ("max", "min") else kind)
        if name in KINDS and isinstance(args[-1], bool):
            self.orders.add(args[-1])
        self.noted(name, args, kwargs, results, writes)
        made = [Slot(one) for one in results]
        return made if name in LISTS else made[0] if len(made) == 1 else tuple(made)

    def already(self, name: str, args: list[Any]) -> Any:
        """A value that an operation would make again, as it was stacked; or None."""
        if name == "select" and isinstance(args[0], Slot) and args[0].name not in self.written:
            stack = self.makers.get(args[0].name)
            if stack and stack.op == "stack" and [*stack.args[1:], 0][0] == args[1]:
                return stack.args[0][args[2]]
        return None

    def noted(
        self, name: str, args: list[Any], kwargs: Mapping[str, Any], results: list[str], writes: bool
    ) -> None:
        """Note an operation, and which values depend on the numbers of the inputs."""
        kwargs = {key: one for key, one in kwargs.items() if one is not None and key not in MUTE}
        called, args = function(name, args[:1] if name == "to" else args)
        node = Node(called, args, kwargs, results, *self.place, writes)
        self.nodes.append(node)
        self.makers |= dict.fromkeys(results, node)
        read = {one.name for one in flat((args, kwargs)) if isinstance(one, Slot)}
        if read & self.varying and called not in program.FILLS:
            self.varying.update(results, [args[0].name] if writes else ())
        if writes:
            self.written.add(args[0].name)

    def kind_of(self, name: str, args: Any, kwargs: Any) -> str:
        """The dtype of a result."""
        read = [one.dtype for one in flat((args, kwargs)) if isinstance(one, Shape)]
        given = kwargs.get("dtype")
        if name == "to":
            given = next((one for one in args[1:] if type(one) is int), given)
            other = next((one.dtype for one in args[1:] if isinstance(one, Shape)), None)
            return DTYPES.get(given, "unknown") if given is not None else other or read[0]
        if given is not None:
            return DTYPES.get(given, "unknown")
        if name in TRUTHS:
            return "bool"
        if name == "embedding":
            return read[0]
        if name == "arange" and all(type(one) is int for one in args):
            return "int64"
        scalars = [one for one in flat(args) if type(one) is float]
        best = max(read, key=lambda one: 2 * ("float" in one) + ("int" in one), default="float32")
        return "float32" if "float" not in best and (name in FLOATS or scalars) else best

    def number(self, one: Any) -> Any:
        """The number of a tensor that depends on no numbers of the inputs."""
        if not isinstance(one, Slot):
            return one
        if math.prod(self.shapes[one.name].shape) != 1:
            raise Unfit(f"takes a number of a tensor of shape {self.shapes[one.name].shape}")
        return self.array(one).reshape(-1)[0].item()

    def array(self, one: Slot) -> Array:
        if one.name in self.varying:
            raise Unfit(
                "a condition or a number depends on the numbers of an input, where a net has none: "
                "use torch.where"
            )
        if one.name in self.written:
            raise Unfit("takes numbers of a tensor that is changed in place")
        if one.name in self.tensors:
            return np.asarray(self.tensor(one.name).array)
        if one.name not in self.computed:
            node = self.makers[one.name]
            args, kwargs = mapped(
                (node.args, node.kwargs), lambda a: Given(self.array(a), "") if isinstance(a, Slot) else a
            )
            made = self.constants(
                Op(node.op, args, kwargs, [], "", ""), [self.shapes[name] for name in node.results]
            )
            self.computed |= zip(node.results, made, strict=False)
        return self.computed[one.name]

    # ---- the code ------------------------------------------------------------------------------------------

    def spend(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise Unfit(f"takes more than {FUEL} steps to read, expected fewer: a loop without end?")

    def weigh(self, tree: Any) -> None:
        """Count the leaves of lists, which may hold one another many times."""
        left = [tree]
        while left:
            one = left.pop()
            self.spend()
            if isinstance(one, (list, tuple)):
                left += one
            elif isinstance(one, dict):
                left += one.values()
            elif isinstance(one, range):
                self.spend(len(one))

    def part(self, name: str) -> tuple[Text, Any]:
        """A function or a class by its dotted name."""
        *folders, own = name.split(".")
        path = "/".join(folders)
        if path not in self.texts:
            self.texts[path] = self.text(f"{path}.py")
        text = self.texts[path]
        found = text.parts.get(own) if text else None
        if text is None or found is None:
            raise Unfit(f"{shown(name)} is missing from the code")
        return text, found

    def text(self, name: str) -> Text | None:
        data = self.scripted.code(name)
        if data is None:
            return None
        try:
            whole = data.decode()
            self.tokens += sum(1 for _ in re.finditer(r"\w+|[^\w\s]", whole))
            if self.tokens > MAX_TOKENS:
                raise Unfit(f"got more than {MAX_TOKENS} words of code, expected fewer")
            text = Text(name, whole, self.scripted.places(name))
        except (*WRONG, RecursionError) as error:
            raise Unfit(f"code/{shown(name)}: {error}") from None
        return text

    def method(self, owner: Module, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        text, node = self.part(owner.kind)
        found = functions_of(node).get(name)
        if found is None:
            raise Unfit(f"{shown(owner.kind)} has no {shown(name)}")
        place = self.place
        self.place = (place[0], owner.path or place[1])
        try:
            return self.call(text, found, [owner, *args], kwargs)
        finally:
            self.place = (self.place[0], place[1])

    def call(self, text: Text, node: ast.FunctionDef, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function of the code."""
        names = [one.arg for one in node.args.args]
        missing = names[len(args) :]
        for name, default in zip(names[::-1], node.args.defaults[::-1], strict=False):
            if name in missing and name not in kwargs:
                kwargs = {**kwargs, name: self.value(default, {})}
        env = {**dict(zip(names, args, strict=False)), **kwargs}
        if len(args) > len(names) or set(env) != set(names):
            raise Unfit(f"calls {shown(node.name)} with {len(args)} arguments, expected {len(names)}")
        if len(self.frames) >= MAX_CALLS:
            raise Unfit(f"calls functions within functions more than {MAX_CALLS} deep")
        self.frames.append((text, node))
        try:
            self.block(node.body, env)
        except Returned as found:
            return found.value
        finally:
            self.frames.pop()
        return None

    def block(self, body: Sequence[ast.stmt], env: dict[str, Any]) -> None:
        for one in body:
            self.statement(one, env)

    def statement(self, node: ast.stmt, env: dict[str, Any]) -> None:
        self.spend()
        self.frames[-1] = (self.frames[-1][0], node)
        match node:
            case ast.Assign(targets=[target], value=value):
                self.assign(target, self.value(value, env), env)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.assign(target, self.value(value, env), env)
            case ast.Expr(value=value):
                self.value(value, env)
            case ast.Return(value=value):
                raise Returned(None if value is None else self.value(value, env))
            case ast.If(test=test, body=body, orelse=other):
                self.block(body if self.asked(test, env) else other, env)
            case ast.For(target=target, iter=given, body=body):
                for one in self.listed(self.value(given, env)):
                    self.spend()
                    self.assign(target, one, env)
                    self.block(body, env)
            case ast.While(test=test, body=body):
                while self.asked(test, env):
                    self.spend()
                    self.block(body, env)
            case ast.With(body=body):
                self.block(body, env)
            case ast.Pass() | ast.AnnAssign(value=None) | ast.Import():
                pass
            case _:
                raise Unfit(f"has a statement {type(node).__name__}, which no code of TorchScript has")

    def asked(self, test: ast.expr, env: Mapping[str, Any]) -> bool:
        """A condition, whose answers are kept by its place."""
        found = bool(self.number(self.value(test, env)))
        text, node = self.frames[-1]
        key = self.place[1], text.name, test.lineno, test.col_offset
        place = text.where(node) or f"{shown(text.name)}:{test.lineno}"
        self.answers.setdefault(key, (place, set()))[1].add(found)
        return found

    def listed(self, given: Any) -> Any:
        if not isinstance(given, (list, tuple, range)):
            raise Unfit("goes over something else than a list or a range")
        return given if isinstance(given, range) else list(given)

    def assign(self, target: ast.expr, value: Any, env: dict[str, Any]) -> None:
        match target:
            case ast.Name(id=name):
                env[name] = value
            case ast.Tuple(elts=parts):
                if not isinstance(value, (tuple, list)):
                    raise Unfit(f"takes {len(parts)} values of something that is no list")
                if len(value) != len(parts):
                    raise Clash(len(value), len(parts))
                for one, part in zip(parts, value, strict=True):
                    self.assign(one, part, env)
            case ast.Attribute(value=owner, attr=name):
                module = self.value(owner, env)
                if not isinstance(module, Module):
                    raise Unfit(f"sets {shown(name)} of something that is no module")
                module.attributes[name] = value
                module.calls[name] = self.number_of_call
                self.kept |= self.varies(value)
            case ast.Subscript(value=owner, slice=index):
                self.value(owner, env)[self.value(index, env)] = value
            case _:
                raise Unfit(f"sets a {type(target).__name__}")

    def attribute(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Path):
            if owner.name == "CONSTANTS":
                return self.constant(name)
            if len(owner.name) > MAX_NAME:
                raise Unfit("has a name that is too long")
            return Path(f"{owner.name}.{name}")
        if isinstance(owner, Row) and name in owner.fields:
            return owner[owner.fields.index(name)]
        if not isinstance(owner, Module):
            raise Unfit(f"reads {shown(name)} of something that is no module")
        if name == "training":
            return False
        if name not in owner.attributes:
            path = f"{owner.path}.{name}" if owner.path else name
            if name not in owner.own:
                _, node = self.part(owner.kind)
                if constant := fields_of(node).get(name):
                    return self.value(constant, {})
                raise Unfit(f"{shown(path)} is missing from the file")
            owner.attributes[name] = self.valued(owner.own[name], path)
        self.stale |= owner.calls.get(name, self.number_of_call) < self.number_of_call and self.varies(
            owner.attributes[name]
        )
        return owner.attributes[name]

    def varies(self, value: Any) -> bool:
        self.weigh(value)
        return any(isinstance(one, Slot) and one.name in self.varying for one in flat(value))

    def value(self, node: ast.expr, env: Mapping[str, Any]) -> Any:
        self.spend()
        match node:
            case ast.Name(id=name):
                return env[name] if name in env else WORDS[name] if name in WORDS else Path(name)
            case ast.Constant(value=value):
                if type(value) not in (int, float, bool, str, type(None)) or (
                    type(value) is int and value > 1 << 63
                ):
                    raise Unfit(f"has the constant {shown(repr(type(value)))}, which no net has")
                return value
            case ast.Attribute(value=owner, attr=name):
                return self.attribute(self.value(owner, env), name)
            case ast.Tuple(elts=parts):
                return tuple(self.value(one, env) for one in parts)
            case ast.List(elts=parts):
                return [self.value(one, env) for one in parts]
            case ast.Dict(keys=keys, values=values):
                return {
                    self.value(a, env): self.value(b, env) for a, b in zip(keys, values, strict=True) if a
                }
            case ast.Subscript(value=owner, slice=index):
                found, at = self.value(owner, env), self.number(self.value(index, env))
                if isinstance(found, Path):  # a type
                    return found
                return found[at]
            case ast.UnaryOp(op=ast.USub(), operand=given):
                return -self.value(given, env)
            case ast.IfExp(test=test, body=body, orelse=other):
                return self.value(body if self.asked(test, env) else other, env)
            case ast.Call(func=called, args=args, keywords=keywords):
                return self.called(called, args, keywords, env)
        raise Unfit(f"has an expression {type(node).__name__}, which no code of TorchScript has")

    def called(
        self, called: ast.expr, given: list[ast.expr], keywords: list[ast.keyword], env: Mapping[str, Any]
    ) -> Any:
        """A call of a method, or of a function by its dotted name."""
        match called:
            case ast.Name(id="annotate" | "unchecked_cast") if len(given) == 2:
                return self.value(given[1], env)
            case ast.Name(id="uninitialized"):
                return None
            case ast.Attribute(value=left, attr=name):
                owner = self.value(left, env)
                if isinstance(owner, Module):
                    call = partial(self.method, owner, name)
                else:
                    call = partial(self.by_name, self.attribute(owner, name))
            case _:
                call = partial(self.by_name, self.value(called, env))
        args = [self.value(one, env) for one in given]
        if getattr(called, "attr", "") in COMPARES:
            self.compared.update(one for one in args if type(one) is int)
        return call(args, {str(one.arg): self.value(one.value, env) for one in keywords})

    def by_name(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function of the code, of `torch` or of Python."""
        if not isinstance(target, Path):
            raise Unfit("calls something that is no function")
        root, _, name = target.name.partition(".")
        if self.frames:
            self.place = (self.line(), self.place[1])
        if name.endswith("utils.rnn.pack_padded_sequence"):
            raise Unfit(PACKS)
        if root == "__torch__":
            return self.made(target.name, args, kwargs)
        last = name.rpartition(".")[2]
        if last in QUANTISED:
            return self.applied(*QUANTISED[last](self.listed, args), {})
        if root in ("torch", "ops") and not name.startswith("quantized"):
            return self.applied(last, args, kwargs)
        if not name and root in BUILTINS:
            return self.applied(BUILTINS[root], args, kwargs)
        if root == "getattr":
            return self.attribute(*args)
        if root == "range":
            return range(*map(self.number, args))
        raise Unfit(f"calls {shown(target.name)}, which is not known")

    def line(self) -> str:
        """The line of the model that runs; of PyTorch's own in brackets, if that is within."""
        text, at = self.frames[-1]
        lines = (found for one, node in self.frames[::-1] if (found := one.where(node)))
        inner = next(lines, "") or f"{shown(text.name)}:{at.lineno}"
        *_, own = inner.rpartition("/torch/")
        outer = next((one for one in lines if "/torch/" not in one), "") if own != inner else ""
        return f"{outer} (torch/{own})" if outer else inner

    def made(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The result of a function of the code, or an object of a class."""
        if name.endswith(".__new__"):
            return Module("", name.removesuffix(".__new__"), {})
        text, node = self.part(name)
        if isinstance(node, ast.FunctionDef):
            return self.call(text, node, args, kwargs)
        if "__init__" in functions_of(node):
            found = Module("", name, {})
            self.method(found, "__init__", args, kwargs)
            return found
        row = Row(args)
        row.fields = list(fields_of(node))
        return row

    def applied(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function of `torch`."""
        self.weigh((args, kwargs))
        if name == "RaiseException":
            odd = next((pair for pair in self.notes[::-1] if pair[0] != pair[1]), (None, None))
            why = f", where it reads {shown(str(odd[0]))} and {shown(str(odd[1]))}" if any(odd) else ""
            text = f"the code raises {shown(str(args[-1]))}{why}: tell the shapes of inputs, shapes="
            raise Raised(text, odd)
        if name in SILENT:
            return SILENT[name]
        if args and isinstance(args[0], Slot):
            if name in TOLD:
                return TOLD[name](self.shape_of(args[0]), *args[1:])
            if name in TAKEN:
                args = [self.number(args[0])]
        if name in COMPOSED:
            return COMPOSED[name](self, args)
        if name in PLAIN and (name in ALWAYS or not any(isinstance(one, Slot) for one in args)):
            return self.plain(name, args, kwargs)
        return self.op(name, args, kwargs)

    def plain(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A function of numbers, lists or texts."""
        if name in ("eq", "ne"):
            both = [one if isinstance(one, list) else [one] for one in args]
            self.notes += zip(*both, strict=False)
        elif name not in TEXTUAL and any(isinstance(one, str) for one in args):
            return ""  # of a message
        if name == "mul":
            times = max([0, *(one for one in args if type(one) is int)])
            self.spend(times * sum(len(one) for one in args if isinstance(one, (list, tuple))))
        found = PLAIN[name](*args, **kwargs)
        if type(found) is int and abs(found) > 1 << 64:
            raise Unfit("computes a number that is too large")
        return found
