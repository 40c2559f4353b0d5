"""Nets of TorchScript's archives, traced or scripted: the text of their code becomes a record.

Nothing runs: the text is parsed as Python's and walked through, each value being a number, a list or the name
of a tensor, whose shape follows by `shapes.SHAPES`. Sizes that the file does not tell are tried: where they
clash with those of weights, the latter hold.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.errors import LoadError
from tinyrnn.importing import WRONG, CodedArray, Unfit
from tinyrnn.modules import program
from tinyrnn.modules.build import MOST_COMPARED, Port, Search
from tinyrnn.modules.functions import FUNCTIONS, KINDS, UNKNOWN, named, several
from tinyrnn.modules.program import MAKES, MOST, PRIMES, Node, Program, Slot, unwritten
from tinyrnn.modules.quantised import QUANTISED
from tinyrnn.modules.recorder import MOST_OPS, Given, Op, Record, convolution, flat, function, leaves, mapped
from tinyrnn.modules.shapes import SHAPES, Clash, Shape, shapes_of
from tinyrnn.net import Net
from tinyrnn.onnx.symbols import BATCH, BATCH_SIZES, FRAME, TIME, Axis, Sizes, has, sizes_of
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.packed import tensors_of
from tinyrnn.weights.pickles import Object, Storage, View
from tinyrnn.weights.pytorch import Exported, Scripted
from tinyrnn.weights.spec import MAX_DIMS, MAX_NAME, MEMORY_FLOOR, Array, Tensor, shown

FUEL = 400_000  # parts of statements that all walks through a file may take, and entries of lists
FUEL_OF_OP = 15
MAX_TOKENS = 64_000  # of all code that is read, each of which takes 800 bytes
MAX_CALLS = 60  # of functions within functions
MAX_LINES, MOST_PLACES = 2_000, 5_000_000  # of a source, and characters of all that are looked up
MAX_STATEMENT, MAX_OPERATORS = 30_000, 1_500  # characters of a statement, and those that nest
MAX_TRIES = 30  # of sizes
OTHER_SIZES = {TIME: (1, 2, 31, 251, 1009), BATCH: (1, 2, 64)}  # that conditions are asked for, too
FUEL_OF_OTHERS = FUEL // 2
MOST_FITS = 8  # sizes that a picture may have behind strides
RANKS = (3, 2, 4, 1, 5)  # of an input, the likeliest first

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
TENSORS = r"Tensor|Optional\[Tensor\]|(Optional\[)?Tuple\[Tensor(, Tensor)*\]\]?"  # types of inputs
PACKS = "packs a sequence by lengths, expected none in a file: use tinyrnn.from_torch"
WORDS = {"inf": math.inf, "nan": math.nan}
LARGE = PRIMES.index(521)  # of sizes for code that refuses short sequences
_NESTING = re.compile(r"[.(\[{+\-*/%|&^~<>=@:]|\b(?:not|if|and|or|is|in|lambda|await|yield|elif)\b")


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


class Text:
    """A file of code: its functions and classes, and the lines of the model that they come from."""

    def __init__(self, name: str, text: str, places: Any) -> None:
        self.name = f"code/{name}"
        body = parsed(text).body
        self.parts = {one.name: one for one in body if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
        self.begins = [0, *(at.end() for at in re.finditer("\n", text))]
        self.texts: Any = ()
        self.ranges: Any = ()
        if type(places) is tuple and len(places) == 3:
            _, self.texts, self.ranges = places
        self.offsets = [one[0] for one in self.ranges]
        self.found: dict[int, str] = {}
        self.left = MOST_PLACES

    def where(self, node: Any) -> str:
        """The line of the model that a statement comes from, or nothing."""
        at = bisect(self.offsets, self.begins[node.lineno - 1] + node.col_offset) - 1
        if at >= 0 and at not in self.found and self.left > 0:
            with suppress(*WRONG):
                self.found[at] = self.place(*self.ranges[at][1][:2])
        return self.found.get(at, "")

    def place(self, source: Any, start: int) -> str:
        """File and line of a place in a source, which is a call stack if the module was traced."""
        parts, file, line = source
        if not isinstance(file, int) or not self.texts[file]:
            return ""
        whole = "".join(self.texts[one] for one in parts[:MAX_LINES])
        self.left -= len(whole)
        for own, number in re.findall(r"(\S+)\((\d+)\): ", whole):
            if "/torch/" not in own:
                return f"{shown(own)}:{number}"
        return f"{shown(self.texts[file])}:{line + whole.count(chr(10), 0, start)}"


def parsed(text: str) -> ast.Module:
    """Parse a file of code, none of whose statements nests deeply enough to trouble Python's parser."""
    depth = size = signs = 0
    for line in text.split("\n"):
        bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', "", line)
        size, signs = size + len(line), signs + len(_NESTING.findall(bare))
        depth += sum(map(bare.count, "([{")) - sum(map(bare.count, ")]}"))
        if (
            size > MAX_STATEMENT
            or signs > MAX_OPERATORS
            or re.match(r"\s*elif\b", line)
            or bare[-1:] == "\\"
            or '"' in bare
        ):
            raise Unfit(f"has the statement {shown(line.strip(), 80)}, which no code of TorchScript has")
        if depth <= 0:
            depth = size = signs = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of literals
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unfit(f"does not parse: {shown(str(error))}") from None


def functions_of(node: Any) -> dict[str, ast.FunctionDef]:
    """The functions of a class."""
    parts = node.body if isinstance(node, ast.ClassDef) else ()
    return {one.name: one for one in parts if isinstance(one, ast.FunctionDef)}


def fields_of(node: Any) -> dict[str, ast.expr | None]:
    """The fields of a class, those that are constants with their values."""
    return {
        one.target.id: one.value
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }


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


def _attention(script: Script, args: list[Any]) -> list[Any]:
    """``native_multi_head_attention``, which has the batch first; a trace without gradients has it."""
    mask, _, _, kind = [*args[9:], None, None, None, None][:4]
    if mask is not None and kind != 1:
        raise Unfit("has a mask of pairs of steps in a trace, expected one of steps: use torch.jit.script")
    steps_first = [script.op("transpose", [one, 0, 1], {}) for one in args[:3]]
    unused = [None, None, False, 0.0]  # biases of keys and values, a zero, dropout
    found, weights = script.op(
        "multi_head_attention_forward", [*steps_first, *args[3:7], *unused, *args[7:9], False, mask], {}
    )
    return [script.op("transpose", [found, 0, 1], {}), weights]


def _encoder_layer(script: Script, args: list[Any]) -> Any:
    """``transformer_encoder_layer_fwd``, likewise."""
    x, width, heads, *attention = args[:7]
    gelu, first, eps, *rest = args[7:18]
    mask, kind = [*args[18:], None, None][:2]

    def normed(x: Any, place: int) -> Any:
        return script.op("layer_norm", [x, [width], *rest[place : place + 2], eps], {})

    def attended(x: Any) -> Any:
        return _attention(script, [x, x, x, width, heads, *attention, mask, False, True, kind])[0]

    def fed(x: Any) -> Any:
        inner = script.op("gelu" if gelu else "relu", [script.op("linear", [x, *rest[4:6]], {})], {})
        return script.op("linear", [inner, *rest[6:8]], {})

    for place, part in ((0, attended), (2, fed)):
        if first:
            x = script.op("add", [x, part(normed(x, place))], {})
        else:
            x = normed(script.op("add", [x, part(x)], {}), place)
    return x


# Operations that are several.
COMPOSED: dict[str, Callable[[Script, list[Any]], Any]] = {
    "_native_multi_head_attention": _attention,
    "_transformer_encoder_layer_fwd": _encoder_layer,
}


class Script(Program):
    """A module of TorchScript.

    Parameters
    ----------
    file : WeightsFile
    given : mapping
        Numbers of arguments of the forward, by name.
    told : mapping of str to sequence
        Sizes of inputs by name; one that is no int varies.

    Attributes
    ----------
    looped : bool
        The module keeps states among its attributes, so it runs step by step over an axis of time.
    """

    # A search for sizes: what a tried one is, those of inputs, pairs that the code compared.
    sized: dict[int, int]
    doubts: dict[int, list[int]]  # sizes that do as well, by the tried one
    hinted: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    notes: list[tuple[Any, Any]]
    kinds_fixed: set[str]  # of axes that have the sizes of the trace
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
    last: tuple[tuple[tuple[int, ...], ...], list[list[Axis]]]  # shapes of a run, and axes of the inputs
    answered: dict[tuple[tuple[int, ...], ...], dict[Any, tuple[str, set[bool]]]]  # by shapes
    place: tuple[str, str]
    unknown: str  # the first operation that no layer has; it may be read by nothing

    def __init__(
        self, file: WeightsFile, given: Mapping[str, Any], told: Mapping[str, Sequence[Any]]
    ) -> None:
        self.file, self.scripted = file, file.net
        assert isinstance(self.scripted, Scripted)
        self.exported = Exported({}, dict, dict)  # type: ignore[arg-type]
        self.budget = MEMORY_FLOOR + 16 * file.info.bytes
        self.given, self.records, self.orders = {}, {}, set()
        self.scales: dict[str, Tensor] = {}  # of codes
        self.left, self.spare = FUEL, FUEL_OF_OTHERS
        self.told, self.looped = dict(told), False
        self.texts: dict[str, Text | None] = {}
        self.tokens = 0
        self.bound = dict(given)
        self.labels = self.scripted.names
        self.named = set(self.labels.values())
        self.nodes, self.shapes, self.stage = [], {}, 0
        self.examples = self.traced()
        self.signature = self.arguments()

    # ---- discovery -----------------------------------------------------------------------------------------

    def traced(self) -> list[Shape]:
        """The inputs that a module was traced with, if the file has them."""
        found = []
        for one in flat(self.scripted.example):
            if isinstance(one, View) and isinstance(one.storage, Storage):
                shape = several(one.shape)[: MAX_DIMS + 1]
                if not all(type(size) is int and 0 < size < MOST for size in shape):
                    return []
                found.append(Shape(tuple(shape), one.storage.dtype or "float32"))
        return found

    def arguments(self) -> list[tuple[str, str]]:
        """The names and types of the arguments of the forward that a call gives."""
        owner = self.scripted.module
        _, node = self.part(owner.name)
        forward = functions_of(node).get("forward")
        if forward is None:
            raise Unfit(f"{shown(owner.name)} has no forward")
        args = forward.args.args[1:]
        least = len(args) - len(forward.args.defaults)
        found = []
        for i, one in enumerate(args):
            kind = ast.unparse(one.annotation) if one.annotation else "Tensor"
            wanted = any(name == one.arg or name.startswith(f"{one.arg}_") for name in self.told)
            if one.arg in self.bound or (i >= least and not wanted):
                continue
            if kind in ("int", "float", "bool"):
                name = shown(one.arg)
                raise Unfit(f"the forward takes the number {name}: give it, load(path, {name}=...)")
            if not re.fullmatch(TENSORS, kind):
                raise Unfit(f"the forward takes {shown(one.arg)} of type {shown(kind)}, expected a tensor")
            found.append((one.arg, kind))
        unknown = set(self.bound) - {one.arg for one in args}
        if unknown:
            names = ", ".join(one.arg for one in args)
            raise TypeError(
                f"load: got {', '.join(sorted(unknown))}, expected arguments of the forward: {names}"
            )
        self.inputs = []
        for name, kind in found:
            count = kind.count("Tensor")
            self.inputs += [name] if "Tuple" not in kind else [f"{name}_{i}" for i in range(count)]
        if not self.inputs:
            raise Unfit("the forward takes no tensor")
        return found

    def tries(self, axes: Mapping[str, str]) -> Iterator[tuple[dict[str, int], set[str]]]:
        """Ranks of the inputs, the likeliest first; and the kinds of axes with the sizes of the trace."""
        told = {name: len(one) for name, one in (*axes.items(), *self.told.items())}
        if unknown := set(told) - set(self.inputs):
            raise TypeError(f"load: got axes or shapes of {sorted(unknown)}, expected some of {self.inputs}")
        if self.examples:
            yield from (({}, fixed) for fixed in (set(), {BATCH}, {TIME}, {BATCH, TIME}))
            return
        first, *others = self.inputs
        for rank in [told[first]] if first in told else RANKS:
            for other in dict.fromkeys((rank, 2, 3)) if set(others) - set(told) else (rank,):
                yield {**dict.fromkeys(others, other), first: rank, **told}, set()

    def discover(self, ranks: Mapping[str, int], fixed: set[str], begin: int = 0) -> None:
        """Find the sizes of the inputs, of these ranks as far as nothing tells others, and the ports."""
        self.looped, self.kinds_fixed = False, fixed
        self.records.clear()
        self.answered = {}
        self.sized, self.hinted, self.doubts = {}, {}, {}
        self.dtypes = dict.fromkeys(self.inputs, "float32")
        for name, one in zip(self.inputs, self.examples, strict=False):
            self.hinted[name], self.dtypes[name] = one.shape, one.dtype
        ranks, hints = dict(ranks), iter(PRIMES[begin:])
        for _ in range(MAX_TRIES):
            shapes = self.guessed(ranks, hints)
            try:
                first = self.interpreted(shapes)
                break
            except Clash as clash:
                if not self.taught(clash, ranks) and not self.searched(clash.pair):
                    raise
            except Raised as fault:
                if self.examples or not (self.learned(self.notes[::-1]) or self.searched(fault.pair)):
                    if begin or self.examples:
                        raise
                    return self.discover(ranks, fixed, LARGE)
        else:
            raise Unfit("has inputs whose sizes are not found: tell them, shapes={name: (None, None, 40)}")
        # Does a call read what the one before it kept?
        if self.kept and self.interpreted(shapes, 2) and self.stale:
            self.looped = True
            first = self.record_of(tuple((one[0], 3, *one[1:]) for one in shapes))
        self.found(first)

    def guessed(self, ranks: Mapping[str, int], hints: Iterator[int]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs, as far as they are known by now."""
        self.notes = []
        for name in self.inputs:
            told = self.told.get(name) or [None] * ranks.get(name, RANKS[0])
            if len(self.hinted.get(name, ())) != len(told) and not self.examples:
                self.hinted[name] = tuple(one if type(one) is int else next(hints) for one in told)
        return self.known_shapes()

    def known_shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(self.resolved, self.hinted[name])) for name in self.inputs)

    def hints(self) -> set[int]:
        """The sizes of inputs that are not known."""
        return {size for shape in self.known_shapes() for size in shape} & set(PRIMES)

    def taught(self, clash: Clash, ranks: dict[str, int]) -> bool:
        """Learn of a clash: the dtype or the rank of an input, or a size."""
        own = next((name for name in self.inputs if self.shapes[name] is clash.got), None)
        if own and isinstance(clash.wanted, str):
            self.dtypes[own] = clash.wanted
        elif own and own != self.inputs[0] and own not in self.told and ranks.get(own) != clash.wanted:
            ranks[own] = clash.wanted
        else:
            return not self.examples and self.learned([(clash.got, clash.wanted)])
        return True

    def resolved(self, size: int) -> int:
        while size in self.sized:
            size = self.sized[size]
        return size

    def learned(self, pairs: Sequence[tuple[Any, Any]]) -> bool:
        """Learn of a size that it must be another."""
        hints = self.hints()
        for pair in pairs:
            for got, wanted in (pair, pair[::-1]):
                if type(got) is not int or type(wanted) is not int or not 0 < wanted < MOST:
                    continue
                for one in sorted(hints, reverse=True):
                    # the size itself, times another, or with others beside it
                    times, more = max(got // one, 1), got - one
                    if any(times % other == 0 for other in hints):
                        continue  # a product of several that are not known
                    size = wanted // times if got == one * times and wanted % times == 0 else 0
                    size = wanted - more if not size and 0 < more < 60 and wanted not in hints else size
                    if 0 < size != one and (size not in hints or size < one):
                        self.sized[one] = size
                        return True
        return False

    def searched(self, pair: tuple[Any, Any]) -> bool:
        """Search a size from which one that the code compares follows, as a picture's behind convolutions."""
        nodes, nearby = self.nodes, range(-MOST_FITS, MOST_FITS + 1)
        if self.examples or not all(type(one) is int for one in pair):
            return False
        for hint in sorted(self.hints(), reverse=True):
            twice = self.tried(hint, 2 * hint, len(nodes)) or pair
            changed = [one != other for one, other in zip(pair, twice, strict=True)]
            if sum(changed) == 1:
                own = changed.index(True)
                slope = (twice[own] - pair[own]) / hint
                size = hint + round((pair[1 - own] - pair[own]) / slope)
                fits = [
                    size + n for n in nearby if size + n > 0 and not self.tried(hint, size + n, len(nodes))
                ]
                if 0 < len(fits) <= MOST_FITS:
                    self.sized[hint] = max(fits, key=lambda one: one & -one)  # a round number
                    self.doubts[hint] = fits
                    return True
        self.nodes = nodes
        return False

    def tried(self, hint: int, size: int, done: int) -> tuple[Any, Any] | None:
        """The pair that the code compares first if an input has another size; None if it goes on."""
        self.sized[hint], self.notes = size, []
        try:
            self.interpreted(self.known_shapes())
        except (*WRONG, RecursionError) as fault:
            if len(self.nodes) <= done:
                found = getattr(fault, "pair", ())
                return found if all(type(one) is int for one in found) and found else (0, 1)
        finally:
            del self.sized[hint]
        return None

    # ---- records -------------------------------------------------------------------------------------------

    def sizes(self, port: Port, place: int, wanted: Sizes) -> Sizes:
        if self.looped and place == 1:
            return wanted
        name = self.inputs[self.ports.index(port)]
        size = self.resolved(self.hinted[name][place - (self.looped and place > 0)])
        kind = BATCH if wanted == BATCH_SIZES else TIME
        if kind in self.kinds_fixed if self.examples else size not in PRIMES:
            return size, size
        # Close to each other, as tables of positions may be short, and with other remainders.
        return wanted if self.examples or kind == BATCH else (wanted[0], wanted[0] + 13)

    def run(self, axes: list[list[Axis]], times: Mapping[str, Sizes], world: int) -> tuple[Record, Any]:
        self.check_times(times)
        shapes = tuple(self.shape_with(name, own, world) for name, own in zip(self.inputs, axes, strict=True))
        if BATCH in self.kinds_fixed:
            more = (
                tuple(size + has(axis, BATCH) for size, axis in zip(*pair, strict=True))
                for pair in zip(shapes, axes, strict=True)
            )
            if self.takes(tuple(more)):
                raise self.error("does something else for other batches than the trace's")
        self.last = shapes, axes
        try:
            return self.record_of(shapes), None
        except (*WRONG, RecursionError) as error:
            advice = "; a trace may hold for its example's sizes alone: use torch.jit.script" * bool(
                self.examples
            )
            raise error if isinstance(error, LoadError) else self.error(f"{error}{advice}") from None

    def check_times(self, times: Mapping[str, Sizes]) -> None:
        """Refuse axes of time where there is one number of steps, and none where a trace has some."""
        if not self.examples:
            free = sum(size in PRIMES for size in self.known_shapes()[0])
            if times and free < 2 and not self.looped:
                raise self.error("has one number of steps, expected frames of so many rows")
        elif times and TIME in self.kinds_fixed:
            raise self.error("the trace holds for its example's number of steps alone: use torch.jit.script")
        elif not times and TIME not in self.kinds_fixed:
            raise self.error('no axis of the trace\'s inputs is time: tell it, axes="BTF"')

    def shape_with(self, name: str, axes: list[Axis], world: int) -> tuple[int, ...]:
        """The shape of an input with these axes in a world."""
        shape = tuple(sizes_of(axis)[world] for axis in axes)
        own = [axis for i, axis in enumerate(axes) if i != 1 or not self.looped]
        for i, (hint, axis) in enumerate(zip(self.hinted[name], own, strict=True)):
            free = self.resolved(hint) in PRIMES and not self.examples
            if free and any(atom.kind == FRAME for atom in axis):
                raise self.error(
                    f"input {shown(name)}: axis {i} may have any size, expected a known one: "
                    f'load(path, shapes={{"{shown(name)}": (None, None, 40)}})'
                )
        return shape

    def unsteady(self) -> str:
        """A condition of the code on the steps or the batch, whose answer is another at some; or nothing."""
        if self.looped:
            return ""
        shapes, axes = self.last
        usual = self.answers_of(shapes)
        near = {one + n for one in self.compared for n in (-1, 0, 1) if 0 < one + n <= MOST_COMPARED}
        advice = f": tell it, for a net of so many steps, shapes={{{self.inputs[0]!r}: (None, 50, 40)}}"
        kinds = {TIME: ("number of steps", advice), BATCH: ("batch", "")}
        for kind, (words, more) in kinds.items():
            if not any(has(axis, kind) for one in axes for axis in one):
                continue
            for count in sorted(near.union(OTHER_SIZES[kind])):
                other = (
                    tuple(count if has(axis, kind) else size for size, axis in zip(*pair, strict=True))
                    for pair in zip(shapes, axes, strict=True)
                )
                for key, (place, found) in self.answers_of(tuple(other)).items():
                    if not found <= usual.get(key, (place, found))[1]:
                        return (
                            f"{place}: a condition has another answer where the {words} is {count}, "
                            f"and a net does the same at all{more}"
                        )
        return ""

    def answers_of(self, shapes: tuple[tuple[int, ...], ...]) -> dict[Any, tuple[str, set[bool]]]:
        """The answers of conditions on inputs of these shapes; none where the code fails, as it may there."""
        if shapes not in self.answered:
            before, self.left = self.left, self.spare
            self.answered[shapes] = {}
            with suppress(*WRONG, RecursionError):
                self.interpreted(shapes)
                self.answered[shapes] = self.answers
            self.spare, self.left = max(self.left, 0), before
        return self.answered[shapes]

    def takes(self, shapes: tuple[tuple[int, ...], ...]) -> bool:
        """True if the code raises nothing on inputs of these shapes."""
        with suppress(*WRONG, RecursionError):
            return bool(self.record_of(shapes))
        return False

    def record_of(self, shapes: tuple[tuple[int, ...], ...]) -> Record:
        if shapes not in self.records:
            self.records[shapes] = self.interpreted(shapes)
        return self.records[shapes]

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

    def remark(self, bounded: bool = True) -> None:
        """Warn of sizes that may be others; and, if ``bounded``, of a batch that is the trace's."""
        if BATCH in self.kinds_fixed and bounded:
            warnings.warn(
                'load: the trace holds for its example\'s batch alone; the net takes others, too: axes="BTF" '
                "says so",
                stacklevel=4,
            )
        for name, shape in zip(self.inputs, self.known_shapes(), strict=True):
            for place, hint in enumerate(self.hinted[name]):
                if len(self.doubts.get(hint, ())) > 1:
                    told = tuple(None if size in PRIMES else size for size in shape)
                    warnings.warn(
                        f"load: axis {place} of {shown(name)} has the size {shape[place]}; the file allows "
                        f'{self.doubts[hint]}: tell another, shapes={{"{shown(name)}": {told}}}',
                        stacklevel=4,
                    )

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


def _net(script: Script, told: Mapping[str, str]) -> Net:
    net = Search(script, {} if script.looped else told, math.inf).net()
    if odd := script.unsteady():
        script.stage = 2
        raise script.error(odd)
    script.remark(not told)
    return net


def build_net(
    file: WeightsFile,
    axes: str | Mapping[str, str] | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    **numbers: float,
) -> Net:
    """Build the net of a module of TorchScript, or of a program of `torch.export`.

    Parameters
    ----------
    file : WeightsFile
    axes : str or mapping, optional
        The axes of the first input, or of inputs by name, as in `tinyrnn.from_torch`.
    shapes : mapping, optional
        The shape of inputs of TorchScript by name, where the file does not tell it; None is any size.
    **numbers
        Of arguments of the forward.

    Raises
    ------
    LoadError
        If the file is damaged, or an operation is no layer of tinyrnn; with file and line of the model.
    """
    if isinstance(file.net, Exported):
        given: dict[str, Any] = {**({} if shapes is None else {"shapes": shapes}), **numbers}
        return program.build_net(file, axes, **given)
    faults: list[tuple[int, int, int, LoadError]] = []
    try:
        script = Script(file, numbers, dict(shapes or {}))
        told = {script.inputs[0]: axes} if isinstance(axes, str) else dict(axes or {})
        for ranks, fixed in script.tries(told):
            try:
                script.stage = 0
                script.discover(ranks, fixed)
                script.stage = 1
                return _net(script, told)
            except (*WRONG, RecursionError) as error:
                fault = error if isinstance(error, LoadError) else file.error(shown(str(error), 1000))
                faults.append((script.stage, len(script.nodes) * (not script.stage), -len(faults), fault))
    except (*WRONG, RecursionError) as error:
        if isinstance(error, (LoadError, TypeError)):
            raise
        raise file.error(f"the code: {shown(str(error), 1000)}") from None
    fault = max(faults)[-1]
    if any(re.search(r"(^|_)len(s|gths?)?(_|$)", name) for name in script.inputs[1:]) and PACKS not in str(
        fault
    ):
        fault = LoadError(f"{fault}; a file with lengths among its inputs: use tinyrnn.from_torch")
    raise fault.with_traceback(None) from None
