"""Nets of the programs that `torch.export.save` wrote: the graph in a file's JSON becomes a record.

Nothing runs and PyTorch is not needed: the JSON has the shape of every tensor, and a symbol in it for each
size that varies. What depends on no input is computed here, by the same functions that make layers.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError
from tinyrnn.importing import WRONG, Unfit, warn
from tinyrnn.modules.build import Port, Search, Source, letters_of, ports_of
from tinyrnn.modules.functions import FUNCTIONS, KINDS, UNKNOWN, Made, Site
from tinyrnn.modules.recorder import LIKE, MOST_OPS, Given, Op, Record, Ref, flat, function, mapped, refs
from tinyrnn.modules.shapes import Shape, shapes_of
from tinyrnn.net import Net
from tinyrnn.onnx.symbols import BATCH, BATCH_SIZES, TIME, Axis, Known, Sizes, has, sizes_of
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.pytorch import SCALARS, Exported
from tinyrnn.weights.spec import MAX_DIMS, MEMORY_FLOOR, READ, Array, shown

VERSION = 8  # of the schema
MOST = 1 << 40  # of a size
MAX_EXPRESSION = 2000  # characters
MAX_NESTING = 99  # of an expression; the limit of Python may be any
# Sizes in place of those that vary or are not known yet, all different, so that equal ones are the same.
PRIMES = [n for n in range(61, 1200) if all(n % k for k in range(2, 35))]


@dataclass(frozen=True)
class Slot:
    """A value by its name: a tensor, or a number that depends on sizes."""

    name: str


class Node(NamedTuple):
    op: str
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[str]
    where: str
    module: str
    writes: bool  # into its first argument


# ---- sizes -------------------------------------------------------------------------------------------------

_SIZES: dict[str, Callable[..., int]] = {
    "Add": lambda *given: sum(given),
    **dict.fromkeys(("Mul", "Mult"), lambda *given: math.prod(given)),
    "Sub": lambda a, b: a - b,
    "Pow": lambda a, b: a**b if 0 <= b <= 3 else 1 // 0,
    **dict.fromkeys(("FloorDiv", "CleanDiv"), lambda a, b: a // b),
    **dict.fromkeys(("Mod", "PythonMod"), lambda a, b: a % b),
    "Max": max,
    "Min": min,
    "Integer": int,
    "USub": lambda a: -a,
}


def _sized(one: Any, symbols: Mapping[str, int]) -> int:
    """A number of an expression of SymPy, ``Add(Symbol('s0', integer=True), Integer(1))`` or ``s0 + 1``."""
    match one:
        case int(found) | ast.Constant(value=int(found)):
            pass
        case ast.Name(id=name) | ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            found = symbols[name]
        case ast.Call(func=ast.Name(id=name), args=args):
            found = _SIZES[name](*(_sized(arg, symbols) for arg in args))
        case ast.UnaryOp(op=sign, operand=arg):
            found = _SIZES[type(sign).__name__](_sized(arg, symbols))
        case ast.BinOp(left=a, op=sign, right=b):
            found = _SIZES[type(sign).__name__](_sized(a, symbols), _sized(b, symbols))
        case _:
            found = MOST + 1
    if not -MOST <= found <= MOST:
        raise ValueError("has a size that is too large, or no sum, product or quotient")
    return found


def _expression(given: Any) -> Any:
    """A size of the JSON: an int, or a tree of an expression."""
    tag, value = _tagged(given)
    if tag == "as_int" and type(value) is int:
        return value
    text = value if isinstance(value, str) else value["expr_str"]
    if len(text) > MAX_EXPRESSION:
        raise ValueError(f"has a size of {len(text)} characters, expected at most {MAX_EXPRESSION}")
    try:
        tree: Any = ast.parse(text, mode="eval").body
        level = [tree]
        for _ in range(MAX_NESTING):
            level = [inner for one in level for inner in ast.iter_child_nodes(one)]
        if level:
            raise RecursionError
        tree.hint = 0 if text is value else value.get("hint")
        return tree
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"has the size {shown(text)}, expected an expression") from None


def _symbols(tree: Any) -> Iterator[str]:
    for one in ast.walk(tree) if isinstance(tree, ast.AST) else ():
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value
        elif isinstance(one, ast.Name) and one.id not in (*_SIZES, "Symbol"):
            yield one.id


# ---- the JSON ----------------------------------------------------------------------------------------------


def _tagged(given: Any) -> tuple[str, Any]:
    """The tag and the value of a union."""
    ((tag, value),) = ((tag, value) for tag, value in given.items() if value is not None)
    return tag, value


_KINDS: dict[str, Any] = {
    "as_int": int,
    "as_bool": bool,
    "as_float": (int, float),
    "as_string": str,
}
_LEFT_OUT = ("as_none", "as_device", "as_layout", "as_memory_format", "as_scalar_type")


def _argument(given: Any) -> Any:
    """An argument of an operation, with names for tensors and numbers that depend on sizes."""
    tag, value = _tagged(given)
    if tag in _LEFT_OUT:
        return None
    if tag in ("as_tensor", "as_name"):
        return Slot(_text(value["name"] if isinstance(value, dict) else value))
    if tag.startswith(("as_sym_", "as_optional_")) and isinstance(value, dict):
        return Slot(_text(value["name"])) if "name" in value else _argument(value)
    if tag[-1] == "s" and isinstance(value, list):
        return [_argument({tag[:-1]: one}) for one in value]
    value = float(value) if tag == "as_float" and isinstance(value, str) else value
    if isinstance(value, _KINDS.get(tag, ())):
        return value
    raise ValueError(f"reads {shown(tag)}, which no net has")


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"got {brief(given)}, expected a name")
    return given


# Arguments that schemas before 8.4 did not mark as named.
_NAMED = ("alpha", "approximate", "beta", "correction", "enable_gqa", "rounding_mode", "scale")


def _place(metadata: Any) -> tuple[str, str]:
    """File and line of the model, and its module, of an operation."""
    found = re.findall(r'File "(.*?)", line (\d+)', str(metadata.get("stack_trace") or ""))
    own = [one for one in found if "/torch/" not in one[0]] or found
    stack = str(metadata.get("nn_module_stack")).rpartition(";")[2].split(",")
    return ":".join(map(shown, own[-1])) if own else "", (shown(stack[1]) if stack[1:] and stack[1] else "")


def _pinned(guard: str) -> tuple[str, int] | None:
    """The input and its axis whose size a guard holds to a few; None of more than one."""
    found = re.findall(r"\bL([^.]*)\.size\(\)\[(\d+)\]", guard)
    return ("_".join(re.findall(r"\w+", found[0][0])), int(found[0][1])) if len(found) == 1 else None


def _paths(spec: Any) -> Iterator[str]:
    """Dotted names of the leaves of a tree, in the order of PyTorch's."""
    children = spec["children_spec"]
    keys: Sequence[Any] = range(len(children))
    if "dict" in str(spec["type"]).lower():
        keys = re.findall(r'"([^"\\]*)"', str(spec["context"]))[-len(children) or 99 :]
    for key, child in zip(keys, children, strict=True):
        if child["type"] is None:
            yield f"{key}"
        else:
            yield from (f"{key}.{path}" for path in _paths(child))


# Operations on numbers that may be the steps of the example.
_HOLDING = {
    *("add", "div", "floor_divide", "mul", "pow", "remainder", "rsub", "sub"),
    *("lt", "le", "gt", "ge", "full"),
}
_PARTS = ("select", "slice")
# Operations that read whole numbers as places.
_INDEXING = ("embedding", "gather", "getitem", "index_select", "take_along_dim")
# Operations whose results share numbers with what they read.
_VIEWS = {
    *("alias", "chunk", "contiguous", "detach", "dropout", "expand", "expand_as", "flatten", "narrow"),
    *("permute", "reshape", "select", "slice", "split", "squeeze", "t", "to", "transpose", "unbind"),
    *("unflatten", "unsqueeze", "view", "view_as"),
}


def unwritten(nodes: Sequence[Node], outputs: dict[str, Any], given: set[str]) -> Iterator[Node]:
    """Operations that write into no tensor: what they would write is the tensor from then on.

    ``outputs`` are told their names then; what is ``given`` stays as it is. ``y[:, t] = x`` is a setitem, as
    in a forward.
    """
    makers: dict[str, Node] = {}
    roots: dict[str, str] = {}
    alike: dict[str, list[str]] = {}  # all that share numbers, by root
    names: dict[str, str] = {}  # where the numbers are now
    whole: dict[str, str] = {}  # slices that leave nothing out, and what they are of
    old: set[str] = set()  # what a write to another has changed

    def read(one: Any) -> Any:
        if not isinstance(one, Slot):
            return one
        name = whole.get(one.name, one.name)
        if name in old:
            raise Unfit("reads a tensor after a part of it was changed, expected a copy of it: x.clone()")
        return Slot(names.get(name, name))

    for node in nodes:
        where = f"{node.where}: " if node.where else ""
        try:
            node = node._replace(args=mapped(node.args, read), kwargs=mapped(node.kwargs, read))
        except Unfit as error:
            raise Unfit(f"{where}{error}") from None
        first = node.args[0] if node.args else None
        if isinstance(first, Slot) and node.op == "slice":
            start, end, step = (node.args[2:] + [0, None, 1][len(node.args[2:]) :])[:3]
            if start in (0, None) and (end is None or (type(end) is int and end > MOST)) and step == 1:
                whole[node.results[0]] = first.name
                continue
        if isinstance(first, Slot) and (node.writes or node.op in _VIEWS):
            root = roots.setdefault(first.name, first.name)
            group = alike.setdefault(root, [root])
            if node.writes and root in given:
                raise Unfit(f"{where}changes {shown(root)}, expected states as inputs and outputs")
            if node.writes:
                kept, made = first.name, makers.get(first.name)
                if node.op == "copy" and made and made.op == "select" and isinstance(made.args[0], Slot):
                    x, dim, index = made.args
                    kept = x.name
                    node = node._replace(
                        op="setitem", args=[x, (*[slice(None)] * dim, index), node.args[1]], results=[kept]
                    )
                old.update(one for one in group if one != kept)
                alike[root] = [kept]
                names[kept] = node.results[0]
            else:
                group += node.results
                roots |= dict.fromkeys(node.results, root)
        makers |= dict.fromkeys(node.results, node)
        yield node
    outputs.update({path: mapped(one, read) for path, one in outputs.items()})


class Program(Source):
    """A program.

    Attributes
    ----------
    shapes : dict of str to Shape
        Of each tensor by name.
    numbers : dict of str to int or tree
        Of each number that depends on sizes.
    tensors : dict of str to str
        The tensor of the file that an input of the graph is.
    inputs : list of str
        Those of a call.
    pinned : set of (str, int)
        Inputs and their axes whose size varies, but which the program checks.
    fixed : bool
        True: sizes beside the batch are the example's, and time no axis that varies.
    """

    ran: list[list[Axis]]  # the axes of the inputs in the last run
    held: LoadError | None = None  # an operation holds the number of steps

    def __init__(self, file: WeightsFile) -> None:
        self.fixed = False
        self.file, self.exported = file, file.net
        assert isinstance(self.exported, Exported)
        self.budget = MEMORY_FLOOR + 16 * file.info.bytes
        self.given: dict[str, Given] = {}
        self.records: dict[Any, Record] = {}
        self.symbols: tuple[dict[str, int], dict[str, int]] = ({}, {})
        self.orders = set()
        where = "the program"
        try:
            whole = self.exported.text()
            module = whole["graph_module"]
            graph, signature = module["graph"], module["signature"]
            version = whole["schema_version"]
            major = version["major"] if isinstance(version, dict) else version
            if type(major) is not int or major > VERSION or "input_specs" not in signature:
                raise Unfit(f"has schema version {shown(str(version))}, expected at most {VERSION}")
            if len(graph["nodes"]) > MOST_OPS:
                raise Unfit(f"got {len(graph['nodes'])} operations, expected at most {MOST_OPS}")
            where = "range_constraints"
            self.ranges = {
                str(name): (one["min_val"] or 0, MOST if one["max_val"] is None else one["max_val"])
                for name, one in whole["range_constraints"].items()
            }
            self.guards = [shown(str(one), MAX_EXPRESSION) for one in whole.get("guards_code") or ()]
            self.pinned = {_pinned(one) for one in self.guards if re.fullmatch(r"[^%]* == \d+", one)}
            where = "tensor_values"
            self.shapes = {name: self.shape(one) for name, one in graph["tensor_values"].items()}
            where = "sym_int_values"
            self.numbers = {name: _expression(one) for name, one in graph["sym_int_values"].items()}
            where = "signature"
            self.tensors: dict[str, str] = {}
            self.inputs: list[str] = []
            for one in signature["input_specs"]:
                self.input(*_tagged(one))
            outputs = [_tagged(one) for one in signature["output_specs"]]
            for kind, _ in outputs:
                if kind not in ("user_output", "token"):
                    raise Unfit(f"has the output {shown(kind)}, expected states as inputs and outputs")
            found = [_argument(what["arg"]) for kind, what in outputs if kind == "user_output"]
            self.outputs = dict(zip(self.names(module, len(found)), found, strict=True))
            self.nodes = []
            for i, node in enumerate(graph["nodes"]):
                where = f"node {i}"
                where = f"node {i} ({shown(_text(node['target']))})"
                self.nodes += self.node(node)
            self.nodes = list(unwritten(self.nodes, self.outputs, {*self.tensors, *self.inputs}))
            where = "the inputs"
            self.settle()
        except WRONG as error:
            lacks = "lacks " * isinstance(error, KeyError)
            if isinstance(error, LoadError):
                raise
            raise self.error(f"{where}: {lacks}{shown(str(error), 1000)}") from None
        except RecursionError:
            raise self.error(f"{where}: is nested too deeply") from None

    def error(self, text: str) -> LoadError:
        return self.file.error(text)

    # ---- its parts -----------------------------------------------------------------------------------------

    def shape(self, told: Any) -> Shape:
        told = told.get("meta") or told
        if len(told["sizes"]) > MAX_DIMS:
            raise ValueError(f"got {len(told['sizes'])} axes, expected at most {MAX_DIMS}")
        return Shape(tuple(map(_expression, told["sizes"])), SCALARS.get(told["dtype"], "unknown"))

    def input(self, kind: str, what: Any) -> None:
        """An input of the graph: a tensor of the file, or one of a call."""
        keys = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": kind + "_name"}
        if kind in keys:
            name = _text(what[keys[kind]])
            self.tensors[_text(what["arg"]["name"])] = name
            if name not in self.exported.tensors:
                raise Unfit(f"reads the tensor {shown(name)}, which the file does not have")
        elif kind == "user_input":
            one = _argument(what["arg"])
            if isinstance(one, Slot):
                if one.name not in self.shapes:
                    raise Unfit(f"input {shown(one.name)} is no tensor")
                self.inputs.append(one.name)
        elif kind not in ("token", "constant_input"):
            raise Unfit(f"reads {shown(kind)}, which no net has")

    def names(self, module: Any, count: int) -> list[str]:
        """The names of the outputs."""
        signature = module["module_call_graph"][0]["signature"]
        spec = self.exported.parsed(b'{"spec":%b}' % _text(signature["out_spec"]).encode())["spec"][1]
        found = ["output"] if spec["type"] is None else list(_paths(spec))
        if len(found) != count:
            raise ValueError(f"got {count} outputs, expected {len(found)}")
        return found

    def node(self, node: Any) -> list[Node]:
        """An operation; none where it makes no tensor."""
        target = node["target"]
        results: list[str] = []
        for one in node["outputs"]:
            tag = _tagged(one)[0]
            if "tensor" in tag:
                names = _argument(one)
                results += [
                    one.name if one else "" for one in (names if isinstance(names, list) else [names])
                ]
        name = re.sub(r"^torch\.ops\.aten\.(\w+)\.\w+$", r"\1", target).strip("_")
        if not results:
            return []
        args, kwargs = [], {}
        for one in node["inputs"]:
            try:
                found = _argument(one["arg"])
            except ValueError as error:
                where, _ = _place(node["metadata"])
                raise Unfit(f"{where}: {error}" if where else str(error)) from None
            kind = one.get("kind") or 1 + (one["name"] in _NAMED)
            if kind == 2:
                kwargs[_text(one["name"])] = found
            else:
                args.append(found)
        kwargs = {key: one for key, one in kwargs.items() if one is not None}
        for one in results:
            if one and one not in self.shapes:
                raise Unfit(f"makes {shown(one)}, which has no shape")
        name, args = function(name, args)
        if name in KINDS and isinstance(args[-1], bool):
            self.orders.add(args[-1])
        writes = re.search(r"aten\.[a-z]\w*[a-z0-9]_\.", target) and name != "detach"
        return [Node(name, args, kwargs, results, *_place(node["metadata"]), bool(writes))]

    def settle(self, fixed: bool = False) -> None:
        """Find the ports, by a record of sizes that tell all symbols apart, or of the example's."""
        self.fixed = fixed
        if not self.inputs or not all(self.shapes[name].shape for name in self.inputs):
            raise Unfit("got no input, or one without axes, expected a sequence")
        sizes = [
            size for name in self.inputs for size in self.shapes[name].shape if not isinstance(size, int)
        ]
        names = {one: size.hint for size in sizes for one in _symbols(size)}
        own = {size for one in self.shapes.values() for size in one.shape if isinstance(size, int)}
        free = (one for one in PRIMES[:12] if one not in own)
        for name, hint in names.items():
            if not fixed:
                hint = next(free, 0)
            elif isinstance(hint, dict):
                hint = hint["as_int"]
            if not hint:
                raise Unfit(f"has {len(names)} sizes that vary, expected fewer")
            least, most = self.ranges.get(name, (0, MOST))
            for world in self.symbols:
                world[name] = min(max(hint, least), most)
        self.found(self.record(0))

    def found(self, first: Record) -> None:
        """Take a record, and its ports."""
        self.first = first
        self.ports = ports_of([(name, first.arrays[i]) for i, name in enumerate(self.inputs)], first)
        for port in self.ports:
            if port.role == "lengths":
                raise Unfit(f"got {port.name!r}, as lengths are, expected none: use tinyrnn.from_torch")

    @property
    def tables(self) -> list[Array]:  # type: ignore[override]
        """The matrices that operations have read."""
        arrays = (np.squeeze(one.array) for one in self.given.values() if isinstance(one.array, np.ndarray))
        return [one for one in arrays if one.ndim == 2 and one.dtype.kind == "f"]

    def tensor(self, name: str) -> Given:
        """A tensor of the file."""
        if name not in self.given:
            tensor = self.exported.tensors[name]
            if tensor.dtype not in READ:
                raise Unfit(f"reads {shown(name)} of {tensor.dtype}, which no net has")
            self.room(tensor.nbytes // 8)
            self.given[name] = Given(tensor.array(), name)
        return self.given[name]

    def room(self, count: int) -> None:
        """Take memory for so many numbers."""
        self.budget -= 8 * count
        if self.budget < 0:
            raise Unfit("its constants need more memory than a file of its size may take")

    # ---- records -------------------------------------------------------------------------------------------

    def sizes(self, port: Port, place: int, wanted: Sizes) -> Sizes:
        size = self.shapes[self.inputs[self.ports.index(port)]].shape[place]
        names = sorted(set(_symbols(size)))
        for name in names if not self.fixed or wanted == BATCH_SIZES else ():
            least, most = self.ranges.get(name, (0, MOST))
            pair = sorted(min(max(one, least), most) for one in wanted)
            if pair[0] == pair[1]:
                pair = [max(least, pair[1] - 1), pair[1]]
            for world, one in zip(self.symbols, pair, strict=True):
                world[name] = one
        one, other = (_sized(size, world) for world in self.symbols)
        return one, other

    def run(self, axes: list[list[Axis]], times: Mapping[str, Sizes], world: int) -> tuple[Record, Any]:
        for name, own in zip(self.inputs, axes, strict=True):
            for i, (size, axis) in enumerate(zip(self.shapes[name].shape, own, strict=True)):
                if self.fixed and has(axis, TIME) and any(_symbols(size)) and (name, i) not in self.pinned:
                    raise self.error("does something else at other lengths than the example's")
                if sizes_of(axis)[world] != _sized(size, self.symbols[world]):
                    raise self.error(
                        f"input {shown(name)}: got axis {i} of any size, expected time and the batch alone"
                    )
        self.ran = axes
        fixed = {(kind, size) for kind, size, _ in self.fixed_sizes(axes)}
        for kind, size in sorted(fixed):
            if size < 4:  # mostly a number of the module's own
                continue
            if node := self.holding(kind, size, axes):
                kinds = {TIME: "steps", BATCH: "rows"}[kind]
                self.held = self.held or self.error(
                    f"{node.where or 'the program'}: {node.op} holds {size}, the {kinds} that PyTorch made "
                    "constant, where a net takes any: use tinyrnn.from_torch, or y[:, -1] for the last step; "
                    f"if it is chance, export an example of other {kinds}"
                )
                raise self.held
        return self.record(world), None

    def fixed_sizes(self, axes: list[list[Axis]]) -> Iterator[tuple[str, int, str]]:
        """The axes of time and the batch that PyTorch has made constant: kind, size, and their names."""
        for name, own in zip(self.inputs, axes, strict=True):
            for i, (size, axis) in enumerate(zip(self.shapes[name].shape, own, strict=True)):
                for kind in (TIME, BATCH) if type(size) is int else ():
                    if has(axis, kind):
                        yield kind, size, f"{name}.shape[{i}]"

    def remark(self) -> None:
        """Warn of sizes that PyTorch made constant, or bounded: nothing tells of conditions on them."""
        found = [f"{name} == {size}" for _, size, name in self.fixed_sizes(self.ran)]
        bounds = (one for one in self.guards if " == " not in one)
        found += (re.sub(r"L\['(\w+)'\]\.size\(\)", r"\1.shape", one) for one in bounds)
        if found:
            warn(
                f"load: PyTorch runs this program where {', '.join(found)} alone; the net takes other sizes, "
                'too. If the module asks for none of them, axes="BTF" says so; tinyrnn.verify compares both'
            )

    def holding(self, kind: str, size: int, axes: list[list[Axis]]) -> Node | None:
        """An operation whose numbers may be a size, or its own: at twice the size the program runs with both.

        Numbers without which it fails there are sizes for certain; those with which it fails are none.
        """
        symbols = self.symbols[0]
        # Shapes with numbers as they are, with twice the size; and those of the file.
        worlds: list[dict[str, Shape]] = [{}, {}, {}]
        for name, own in zip(self.inputs, axes, strict=True):
            told = self.whole(name, symbols)
            sizes = [n * (1 + has(axis, kind)) for n, axis in zip(told.shape, own, strict=True)]
            worlds[0][name] = worlds[1][name] = Shape((*sizes,), told.dtype)
        varying = set(self.inputs)
        steps = Counter(node.where for node in self.nodes if node.op in _PARTS)
        doubts: dict[str, Any] = {}  # the first operation that each value depends on
        certain: set[Any] = {None}

        def number(one: Any) -> Any:
            known = isinstance(one, Slot) and one.name in self.numbers
            return _sized(self.numbers[one.name], symbols) if known else one

        def shapes(node: Node, world: int) -> Any:
            def value(one: Any) -> Any:
                if isinstance(one, Slot):
                    return worlds[world].get(one.name) or self.whole(one.name, symbols)
                if type(one) is not int or world != 1:
                    return one
                return 2 * one if one % size == 0 else one + size * (node.op == "arange" and one == size - 1)

            with suppress(*WRONG):
                return [tuple(one) for one in shapes_of(node.op, *mapped((node.args, node.kwargs), value))]
            return None

        for i, node in enumerate(self.nodes):
            node = node._replace(args=mapped(node.args, number))
            slots = [one.name for one in flat((node.args, node.kwargs)) if isinstance(one, Slot)]
            doubt: Any = next((doubts[name] for name in slots if doubts.get(name) not in certain), None)
            made = [self.whole(name, symbols).shape if name else () for name in node.results]
            one, other, same = (shapes(node, world) for world in range(3))  # type: Any, Any, Any
            if not same or any(a and a != b for a, b in zip(made, same, strict=False)):
                one = other = None  # a rule that is not known
            of_loop = node.op in _PARTS and steps[node.where] >= size
            other = one if of_loop else other
            if node.op == "setitem":  # a loop fills it
                one = other
                certain.add(doubt)
            if one is None or other is None:
                certain.add(doubt if one or other else None)
                twice = [tuple(n * (1 + (n == size)) for n in a) for a in made]
                one = other = one or other or twice
                if one is twice and varying.isdisjoint(slots):
                    one = made
            elif one != other and doubt is None:
                doubt = i
            if varying.isdisjoint(slots):
                held = other != same and _unlike(node)
            else:
                varying.update(node.results)
                held = node.op == "select" and node.args[2] == size - 1 and not of_loop
                held = held and worlds[0][slots[0]].shape[node.args[1]] == 2 * size
            numbers = [one for one in node.args if type(one) in (int, float)]
            if held or (
                node.op in _HOLDING and {size, 1 / size, size**0.5, size**-0.5}.intersection(numbers)
            ):
                return node
            for name, *both in zip(node.results, one, other, strict=False):
                for world, n in zip(worlds, both, strict=False):
                    world[name] = Shape(n, self.shapes[name].dtype if name else "")
                doubts |= {} if doubt is None else {name: doubt}
        left: list[Any] = [doubts.get(one.name) for one in flat(self.outputs) if isinstance(one, Slot)]
        return next((self.nodes[one] for one in left if one not in certain), None)

    def record(self, world: int) -> Record:
        """The operations on inputs of the sizes of a world."""
        symbols = self.symbols[world]
        key = tuple(sorted(symbols.items()))
        if key not in self.records:
            self.records[key] = self.recorded(symbols)
        return self.records[key]

    def whole(self, name: str, symbols: Mapping[str, int]) -> Shape:
        """The shape of a tensor where symbols are known."""
        told = self.shapes[name]
        shape = tuple(_sized(one, symbols) for one in told.shape)
        if any(one < 0 for one in shape):
            raise Unfit(f"{shown(name)} has shape {shape}, expected no size below 0")
        return Shape(shape, told.dtype)

    def recorded(self, symbols: Mapping[str, int]) -> Record:
        env: dict[str, Any] = {}
        arrays: list[Any] = []
        ops: list[Op] = []

        def noted(name: str) -> int:
            arrays.append(self.whole(name, symbols) if name else Shape((), "unknown"))
            env[name] = Ref(len(arrays) - 1)
            return len(arrays) - 1

        def read(one: Any) -> Any:
            if not isinstance(one, Slot):
                return one
            if one.name in env:
                return env[one.name]
            if one.name in self.tensors:
                return self.tensor(self.tensors[one.name])
            if one.name in self.numbers:
                return _sized(self.numbers[one.name], symbols)
            raise Unfit(f"reads {shown(one.name)}, which nothing writes before")

        for name in self.inputs:
            noted(name)
        for node in self.nodes:
            try:
                args, kwargs = mapped(node.args, read), mapped(node.kwargs, read)
                if node.op not in FILLS and refs(args[:1] if node.op in LIKE else (args, kwargs)):
                    results = [noted(name) for name in node.results]
                    ops.append(Op(node.op, args, kwargs, results, node.where, node.module))
                    continue
                op = Op(node.op, args, kwargs, [], node.where, node.module)
                made = self.constants(op, [self.whole(name, symbols) for name in node.results])
                given = [Given(one, "", lambda op=op: op) for one in made]  # type: ignore[misc]
                env |= zip(node.results, given, strict=False)
            except WRONG as error:
                if isinstance(error, LoadError):
                    raise
                where = f"{node.where or 'the program'}: {shown(node.op)} of {node.module or 'the module'}"
                raise self.error(f"{where}: {error}") from None
        outputs = {path: read(one) for path, one in self.outputs.items()}
        return Record(ops, arrays, {path: one for path, one in outputs.items() if one is not None})

    def constants(self, op: Op, shapes: Sequence[Shape]) -> list[Array]:
        """The results of an operation that reads no input."""
        for one in shapes:
            if one.dtype not in READ:
                raise Unfit(f"makes a tensor of {one.dtype}, which no net has")
            self.room(math.prod(one.shape))
        # Whole numbers are floats where the result has them, as ONNX's operators keep the type of the first.
        floats = "float" in shapes[0].dtype and op.name not in _INDEXING
        args, kwargs = (
            mapped(tree, lambda one: _known(one, floats) if isinstance(one, Given) else one)
            for tree in (op.args, op.kwargs)
        )
        makes = MAKES.get(op.name)
        if makes is not None:
            arrays = [one.worlds[0] if isinstance(one, Known) else one for one in args]
            found = [np.asarray(makes(shapes[0].shape, *arrays))]
        else:
            if op.name not in FUNCTIONS:
                raise Unfit(UNKNOWN)
            site = Site(False, ())
            site.folds, site.room = True, self.room  # type: ignore[method-assign]
            sizes = [[(size, size) for size in one.shape] for one in shapes]
            made = FUNCTIONS[op.name](Made(op, args, kwargs, site, sizes, [one.dtype for one in shapes]))
            found = [one.worlds[0] for one in (made if isinstance(made, list) else [made])]
        for array, one in zip(found, shapes, strict=False):
            if array.shape != one.shape:
                raise Unfit(f"makes {array.shape}, expected {one.shape}")
        return [array.astype(READ[one.dtype][1]) for array, one in zip(found, shapes, strict=False)]


def _unlike(node: Node) -> bool:
    """True of an operation whose first numbers are others where it makes more."""
    begin = node.args[{"arange": 0, "slice": 2}.get(node.op, 99) :][:1]
    return node.op in ("flip", "linspace") or (len(node.args) > 1 and any(begin))


def _known(given: Given, floats: bool) -> Known:
    array = np.asarray(given.array)
    return Known(array.astype(np.float32) if floats and array.dtype.kind in "iu" else array)


def _counted(shape: Any, *args: Any) -> Array:
    start, step = (args[0] if len(args) > 1 else 0), (args[2] if len(args) > 2 else 1)
    return start + step * np.arange(math.prod(shape))


def _normed(_: Any, v: Array, g: Array, dim: int = 0) -> Array:
    axes = tuple(i for i in range(v.ndim) if i != dim % v.ndim)
    return np.asarray(v * (g / np.sqrt(np.sum(v * v, axes, keepdims=True))))


def _layer_norm(
    _: Any, x: Array, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_more: Any
) -> Array:
    axes = tuple(range(-len(shape), 0))
    spread = np.sqrt(np.var(x, axes, keepdims=True) + eps)
    scaled = (x - np.mean(x, axes, keepdims=True)) / spread * (1 if weight is None else weight)
    return np.asarray(scaled + (0 if bias is None else bias))


def _softmax(_: Any, x: Array, dim: int) -> Array:
    powers = np.exp(x - np.max(x, dim, keepdims=True))
    return np.asarray(powers / np.sum(powers, dim, keepdims=True))


# Operations that make tensors of no other's numbers, by the result's shape.
FILLS: dict[str, Callable[..., Any]] = {
    f"{first}{name}{last}": make
    for name, make in {
        "zeros": lambda shape, *_: np.zeros(shape),
        "ones": lambda shape, *_: np.ones(shape),
        "full": lambda shape, *args: np.full(shape, args[-1]),
    }.items()
    for first, last in (("", ""), ("new_", ""), ("", "_like"))
}

# These, and others that no layer computes.
MAKES: dict[str, Callable[..., Any]] = {
    **FILLS,
    "scalar_tensor": FILLS["full"],
    "arange": _counted,
    "eye": lambda shape, *_: np.eye(*shape),
    "linspace": lambda shape, start, end, *_: np.linspace(start, end, *shape),
    "expand_as": lambda shape, x, _: np.broadcast_to(x, shape),
    **dict.fromkeys(("view_as", "reshape_as"), lambda shape, x, _: x.reshape(shape)),
    **dict.fromkeys(("type_as", "to"), lambda _, x, *__: x),
    "tril": lambda _, x, k=0: np.tril(x, k),
    "triu": lambda _, x, k=0: np.triu(x, k),
    "sin": lambda _, x: np.sin(x),
    "cos": lambda _, x: np.cos(x),
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "weight_norm": _normed,
}


def build_net(file: WeightsFile, axes: str | Mapping[str, str] | None = None) -> Net:
    """Build the net of a program of `torch.export`.

    Parameters
    ----------
    file : WeightsFile
    axes : str or mapping, optional
        The axes of the first input, or of inputs by name, as in `tinyrnn.from_torch`.

    Raises
    ------
    LoadError
        If the program is damaged, or an operation is no layer of tinyrnn; with file and line of the model.
    """
    program = Program(file)
    told, ranks = letters_of(axes, program.ports)
    if any(ranks.get(name) != len(letters) for name, letters in told.items()):
        raise TypeError(f"load: axes: got {told}, expected a letter for each axis of {ranks}")
    try:
        return _net(program, told)
    except LoadError:
        if any(program.symbols):  # operations may have been traced for the sizes of the example alone
            with suppress(*WRONG):
                program.settle(True)
                return _net(program, told)
        if program.held:
            raise program.held.with_traceback(None) from None
        raise


def _net(program: Program, told: Mapping[str, str]) -> Net:
    try:
        net = Search(program, told, math.inf).net()
        if not told:
            program.remark()
        return net
    except (*WRONG, RecursionError) as error:
        if isinstance(error, LoadError):
            raise
        raise program.error(f"the program: {shown(str(error), 1000)}") from None
