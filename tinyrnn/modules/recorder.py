"""The record of a forward: each operation that a value of the inputs goes through, and where it stands.

The forward runs as it is, on real numbers, under a mode of PyTorch that sees each call of its functions.
So control flow in Python, containers and classes of the user's own need no rules here.
"""

from __future__ import annotations

import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinyrnn.importing import CodedArray
from tinyrnn.modules.quantised import QUANTISED, Float, float_function
from tinyrnn.weights.spec import Array

MOST_OPS = 50_000

# Functions that take numbers out of a value, for Python.
TAKING = {
    *("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__contains__", "equal"),
    "allclose",
}

# Functions that tell something of a value and compute nothing from its numbers.
_TELLING = {
    *("size", "dim", "numel", "__len__", "is_floating_point", "is_complex", "stride", "is_contiguous"),
    *("element_size", "get_device", "__hash__", "__format__", "__repr__", "nelement", "ndimension"),
    *("shape", "sym_size"),
}


# Functions that take no more of a value than its shape.
_MAKING = {f"{one}_like" for one in ("zeros", "ones", "empty", "full")} | {
    f"{kind}{one}" for kind in ("", "new_") for one in ("zeros", "ones", "empty", "full")
}


# Functions that take no more than the shape or type of their second tensor.
LIKE = {"expand_as", "view_as", "reshape_as", "type_as", "to"}

# ATen's operations, which programs of torch.export call, by the names that `functions.FUNCTIONS` has.
ATEN_NAMES = {
    "linalg_vector_norm": "vector_norm",
    "max_pool2d_with_indices": "max_pool2d",
    "native_batch_norm_legit_no_training": "batch_norm",
    "native_layer_norm": "layer_norm",
    "split_with_sizes": "split",
}
# By PyTorch's name: where each argument of the function stands among those of the operation.
ATEN_ORDERS: dict[str, tuple[int, ...]] = {
    "batch_norm": (0, 3, 4, 1, 2, 5, 6, 7),
    "embedding": (1, 0),
    "instance_norm": (0, 3, 4, 1, 2, 5, 6, 7),
    "native_batch_norm_legit_no_training": (0, 3, 4, 1, 2, 5, 5, 6),
}


def convolution(args: list[Any]) -> tuple[str, list[Any]]:
    """The function of PyTorch that an operation `convolution` of ATen is, and its arguments."""
    *tensors, stride, padding, dilation, transposed, more, groups = args[:9]
    rest = [padding, more, groups, dilation] if transposed else [padding, dilation, groups]
    return f"conv{'_transpose' * bool(transposed)}{len(stride)}d", [*tensors, stride, *rest]


def function(name: str, args: list[Any]) -> tuple[str, list[Any]]:
    """The function and its arguments of an operation, whose name has no overload."""
    if name == "index":
        x, index = args
        return "getitem", [x, tuple(slice(None) if one is None else one for one in index)]
    if name == "convolution":
        return convolution(args)
    if name in ATEN_ORDERS:
        args = [args[one] for one in ATEN_ORDERS[name] if one < len(args)]
    return ATEN_NAMES.get(name, name), args


@dataclass(frozen=True)
class Ref:
    """A tensor that depends on the inputs, by its number."""

    number: int


@dataclass(frozen=True, eq=False)
class Given:
    """A tensor that does not depend on the inputs.

    Attributes
    ----------
    name : str
        Of its parameter, or empty.
    made : callable, optional
        Returns the operation on other such tensors that made it.
    """

    array: Array | CodedArray
    name: str
    made: Callable[[], Op] | None = None


class Op(NamedTuple):
    """One call.

    Attributes
    ----------
    results : list of int
        The numbers of the tensors that it returned.
    where : str
        File and line of the user's model.
    module : str
        The name of the innermost module whose forward runs.
    """

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[int]
    where: str
    module: str
    within: bool = False  # of a loop's body


def looks_up(op: Op) -> bool:
    """True of an operation that reads indices of rows."""
    of_tensor = op.name in ("getitem", "index_select") and isinstance(op.args[0], Given)
    return of_tensor or op.name in ("embedding", "one_hot")


class Record(NamedTuple):
    """A run: ``arrays`` are the tensors by number, those of the inputs first; ``outputs`` is a tree.

    ``compared`` has the numbers with which the code compared sizes, by line.
    """

    ops: list[Op]
    arrays: Any
    outputs: Any
    compared: Mapping[Any, set[tuple[int, int]]] = {}


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """A tree of tuples, lists, dicts and slices with other leaves; tuples lose their names."""
    if isinstance(tree, tuple):
        return tuple(mapped(one, change) for one in tree)
    if isinstance(tree, list):
        return [mapped(one, change) for one in tree]
    if isinstance(tree, Mapping):
        return {key: mapped(one, change) for key, one in tree.items()}
    if isinstance(tree, slice):
        return slice(*(mapped(one, change) for one in (tree.start, tree.stop, tree.step)))
    return change(tree)


def flat(tree: Any) -> list[Any]:
    """The leaves of a tree, in the order of `mapped`."""
    found: list[Any] = []
    mapped(tree, found.append)
    return found


def refs(tree: Any) -> list[int]:
    """The numbers of the tensors in a tree."""
    return [one.number for one in flat(tree) if isinstance(one, Ref)]


def leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a tree, by dotted paths."""
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    if hasattr(tree, "_asdict"):
        items = tree._asdict().items()
    for key, one in items:
        if isinstance(one, (tuple, list, Mapping)):
            for path, leaf in leaves(one):
                yield f"{key}.{path}", leaf
        else:
            yield str(key), one


def size_type(noted: dict[Any, set[tuple[int, int]]], inside: str) -> Any:
    """A kind of int, for sizes, which notes by line what the user's code compares it with."""

    def comparing(name: str) -> Any:
        def compare(self: int, other: Any) -> Any:
            frame = sys._getframe(1)
            place = frame.f_code.co_filename, frame.f_lineno
            if type(other) in (int, float) and not place[0].startswith(inside):
                noted.setdefault(place, set()).add((int(self), int(other)))
            return getattr(int, name)(self, other)

        return compare

    names = [f"__{one}__" for one in ("eq", "ne", "lt", "le", "gt", "ge")]
    return type("Size", (int,), {one: comparing(one) for one in names} | {"__hash__": int.__hash__})


class _Tape:
    """Notes of a forward that runs.

    Tensors are told apart by their ids, so each whose id stands in a table is kept alive.
    """

    def __init__(self, module: Any) -> None:
        import torch

        self.tensor = torch.Tensor
        self.inside = os.path.dirname(torch.__file__) + os.sep
        self.modules = {id(one): name for name, one in module.named_modules()}
        self.parameters = {
            id(one): name for name, one in [*module.named_parameters(), *module.named_buffers()]
        }
        self.ops: list[Op] = []
        self.arrays: list[Any] = []
        self.numbers: dict[int, int] = {}  # of the tensors that depend on the inputs, by id
        self.alive: list[Any] = []
        self.constants: dict[tuple[int, int], tuple[Any, Given]] = {}  # by id and version
        self.makers: dict[tuple[int, int], tuple[Any, Callable[[], Op]]] = {}  # of constants
        self.float_of = Float()
        self.compared: dict[Any, set[tuple[int, int]]] = {}
        self.size = size_type(self.compared, self.inside)

    def depend(self, values: list[Any]) -> bool:
        """True if one of the values is a tensor that depends on the inputs."""
        return any(id(one) in self.numbers for one in values)

    def noted(self, tensor: Any) -> int:
        """Give a number to a tensor that depends on the inputs."""
        self.numbers[id(tensor)] = len(self.arrays)
        self.alive.append(tensor)
        self.arrays.append(tensor.detach())  # keeps its shape, which transpose_ changes
        return len(self.arrays) - 1

    def kept(self, one: Any) -> Any:
        """An argument or a result as a record has it."""
        if not isinstance(one, self.tensor):
            return int(one) if isinstance(one, self.size) else one
        if id(one) in self.numbers:
            return Ref(self.numbers[id(one)])
        if id(one) in self.float_of.codes:
            return Given(self.float_of.codes[id(one)], "")
        key = id(one), one._version
        if key not in self.constants:
            array = one.detach().cpu()
            array = array.float() if str(array.dtype) in ("torch.bfloat16", "torch.float16") else array
            made = self.makers.get(key, (one, None))[1]
            given = Given(np.array(array.numpy()), self.parameters.get(id(one), ""), made)
            self.constants[key] = one, given
        return self.constants[key][1]

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call a function of PyTorch, and note it if a value of the inputs goes through it."""
        name = func.__name__
        if name in ("__get__", "__set__"):
            name = getattr(func.__self__, "__name__", name)
        name = name.partition(".")[0]  # an overload's name follows, in a program of torch.export
        found = flat((args, kwargs))
        if name in QUANTISED and self.depend(found):
            name, args = QUANTISED[name](self.float_of, args)
            func, found, kwargs = float_function(name), flat(args), {}
        if name in _TELLING or name in _MAKING:
            result = func(*args, **kwargs)
            if name not in ("size", "shape") or not self.depend(found[:1]):
                return result
            return type(result)(map(self.size, result)) if isinstance(result, tuple) else self.size(result)
        read = found[:1] if name in LIKE else found[name == "new_tensor" :]
        if not self.depend(read):
            result = func(*args, **kwargs)
            if isinstance(result, self.tensor):
                self.makers[id(result), result._version] = result, self.maker(name, args, kwargs)
            return result
        left, named = mapped(list(args), self.kept), mapped(kwargs, self.kept)
        called, left = function(name.strip("_"), left) if "." in func.__name__ else (name, left)
        result = func(*args, **kwargs)
        out = [one for one in flat(result) if isinstance(one, self.tensor)]
        if name == "__setitem__":
            out = [args[0]]
        elif not out and name not in TAKING:
            return result
        if len(self.ops) >= MOST_OPS:
            raise ValueError(f"got more than {MOST_OPS} operations, expected a smaller module or example")
        where, owner = self.place()
        if name == "__bool__" and _is_assert(where):
            return result
        name = name if name in TAKING else called.strip("_")
        self.ops.append(Op(name, left, named, [self.noted(one) for one in out], where, owner))
        return result

    def maker(self, name: str, args: Any, kwargs: dict[str, Any]) -> Callable[[], Op]:
        """Return a function that tells the operation by which a constant was made."""
        place = self.place()
        return lambda: Op(
            name.strip("_"), mapped(list(args), self.kept), mapped(kwargs, self.kept), [], *place
        )

    def place(self) -> tuple[str, str]:
        """File and line of the user's model, and the innermost module's name, where the forward stands."""
        frame, owner = sys._getframe(1), ""
        while frame.f_back is not None and frame.f_code is not record.__code__:
            name = frame.f_code.co_filename
            owner = owner or self.modules.get(id(frame.f_locals.get("self")), "")
            if not name.startswith(self.inside) and name != __file__:
                return f"{name}:{frame.f_lineno}", owner
            frame = frame.f_back
        return "", owner


def _is_assert(where: str) -> bool:
    """True if an assertion stands at a file's line."""
    file, _, line = where.rpartition(":")
    return linecache.getline(file, int(line or 0)).lstrip().startswith("assert")


def record(module: Any, args: list[Any], kwargs: dict[str, Any]) -> Record:
    """Run a module on tensors and note what becomes of them; errors are the module's own."""
    import torch
    from torch.overrides import TorchFunctionMode

    tape = _Tape(module)

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.__name__ == "__iter__" and tape.depend(args[:1]):
                with self:
                    return iter(args[0].unbind())
            return tape.call(func, args, kwargs or {})

    for one in flat((args, kwargs)):
        if isinstance(one, torch.Tensor):
            tape.noted(one)

    modes = [(one, one.training) for one in module.modules()]
    threads = torch.get_num_threads()
    with suppress(NotImplementedError):  # a program of torch.export has one mode
        module.eval()
    torch.set_num_threads(1)  # many small operations: waking threads for each takes most of the time
    try:
        with torch.no_grad(), Mode():
            tree = module(*args, **kwargs)
    finally:
        for one, mode in modes:
            one.training = mode
        torch.set_num_threads(threads)
    tree = vars(tree) if hasattr(tree, "__dataclass_fields__") else tree
    if not isinstance(tree, (tuple, list, Mapping)):
        tree = {"output": tree}
    outputs = {path: tape.kept(one) for path, one in leaves(tree)}
    return Record(tape.ops, tape.arrays, outputs, tape.compared)


def signature(module: Any, count: int) -> list[str]:
    """The names of the arguments that a forward takes by place."""
    found = inspect.signature(module.forward).parameters.values()
    names = [one.name for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return [*names, *(f"x{i}" for i in range(len(names), count))]
