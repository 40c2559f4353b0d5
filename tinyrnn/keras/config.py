"""Architectures of Keras 2 and 3 in one form: layers, and the calls of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinyrnn.importing import Unfit
from tinyrnn.weights.spec import shown

MAX_LAYERS = 20_000
MAX_NESTED = 30
_CONSTANT = "_CONSTANT_VALUE"  # the layer's name in a call of Keras 2 that reads a constant
SEQUENTIAL, FUNCTIONAL = ("Sequential",), ("Functional", "Model")


class Ref(NamedTuple):
    """A value: the output of a number of a call of a layer."""

    layer: str
    call: int
    output: int


@dataclass
class Use:
    """One call of a layer: values and constants, nested as Keras has them."""

    args: list[Any]
    kwargs: dict[str, Any]

    def refs(self) -> list[Ref]:
        return list(refs_in([*self.args, *self.kwargs.values()]))


@dataclass
class Entry:
    """A layer as its file describes it.

    Attributes
    ----------
    kind : str
        Its class.
    name : str
    config : dict
    operation : bool or None
        An operation of Keras 3, which is no layer and has no weights; None: perhaps, if its class is one.
    uses : list of Use
        Its calls in a functional model.
    shape : list, optional
        The shape that it was built for.
    """

    kind: str
    name: str
    config: dict[str, Any]
    operation: bool | None = False
    registered: str | None = None
    uses: list[Use] = field(default_factory=list)
    shape: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        return self.config.get(key, default)


def refs_in(thing: Any, depth: int = 0) -> Iterator[Ref]:
    """All values in a nested structure."""
    if depth > MAX_NESTED:
        raise Unfit("arguments are nested too deep")
    if isinstance(thing, Ref):
        yield thing
    elif isinstance(thing, (list, tuple)):
        for one in thing:
            yield from refs_in(one, depth + 1)
    elif isinstance(thing, dict):
        for one in thing.values():
            yield from refs_in(one, depth + 1)


def entry_of(given: Any) -> Entry:
    """A layer from its description."""
    if not isinstance(given, dict) or not isinstance(given.get("class_name"), str):
        raise Unfit(f"a layer is {shown(repr(given), 60)}, expected a mapping with class_name and config")
    config = given.get("config")
    kind = given["class_name"].rpartition(">")[2]
    if kind in ("BatchNormalizationV1", "BatchNormalizationV2", "GRUV1", "LSTMV1"):
        kind = kind[:-2]
    if kind in SEQUENTIAL and isinstance(config, list):  # before Keras 2.2.3
        config = {"layers": config}
    if not isinstance(config, dict):
        raise Unfit(f"a layer of type {shown(kind)} has no config")
    name = given.get("name") or config.get("name") or kind.lower()
    build = given.get("build_config")
    shape = build.get("input_shape") if isinstance(build, dict) else None
    if not isinstance(name, str):
        raise Unfit(f"a layer of type {shown(kind)} has the name {shown(repr(name))}, expected a text")
    policy = config.get("dtype")
    policy = policy.get("config") if isinstance(policy, dict) else None
    if isinstance(policy, dict) and "mode" in policy:
        raise Unfit(
            f"layer {shown(name)} ({shown(kind)}) is quantised to {shown(str(policy['mode']))}, expected "
            "floats: save the model before its quantize(), and quantise the net"
        )
    module = given.get("module")
    # In HDF5 an operation has no module, and nothing but its name and its own arguments.
    perhaps = None if "trainable" not in config else False
    is_operation = ".ops" in module if isinstance(module, str) else perhaps
    registered = given.get("registered_name")
    own = isinstance(module, str) and not module.startswith("keras") and registered
    return Entry(kind, name, config, is_operation, registered if own else None, [], shape)


def layers_of(model: Entry) -> list[Entry]:
    """The layers of a model, in the order of the file; an input has an entry, too."""
    given = model.config.get("layers")
    if not isinstance(given, list) or len(given) > MAX_LAYERS:
        raise Unfit(f"{shown(model.name)}: expected a list of at most {MAX_LAYERS} layers")
    found = [entry_of(one) for one in given]
    names = [entry.name for entry in found]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise Unfit(f"{shown(model.name)}: layer {shown(twice)} occurs twice, expected once")
    if model.kind not in SEQUENTIAL:
        for entry, one in zip(found, given, strict=True):
            nodes = one.get("inbound_nodes", [])
            if not isinstance(nodes, list) or len(nodes) > MAX_LAYERS:
                raise Unfit(f"{shown(entry.name)}: inbound_nodes is no list")
            entry.uses = [_use(node) for node in nodes]
            if entry.kind in ("TFOpLambda", "SlicingOpLambda"):
                _as_operation(entry)
    return found


def _as_operation(entry: Entry) -> None:
    """An operation of TensorFlow in a file of Keras 2, as one of Keras 3."""
    name = str(entry.get("function")).rpartition(".")[2]
    if len(entry.uses) != 1:
        raise Unfit(f"layer {shown(entry.name)}: has {len(entry.uses)} calls, expected one of an operation")
    (use,) = entry.uses
    entry.kind, entry.operation = _OPERATIONS.get(name, name.title().replace("_", "")), True
    told = {_ARGUMENTS.get(key, key): value for key, value in use.kwargs.items()}
    use.args += [told[key] for key in ("y", "key") if key in told]
    use.kwargs = {}
    entry.config = told


# The names of TensorFlow's operations, and of their arguments, in Keras 3, where they are others.
_OPERATIONS = {
    **{"clip_by_value": "Clip", "concat": "Concatenate", "getitem": "GetItem", "mul": "Multiply"},
    **{"neg": "Negative", "pow": "Power", "reduce_max": "Max", "reduce_mean": "Mean", "reduce_sum": "Sum"},
    **{"reverse": "Flip", "sub": "Subtract", "truediv": "TrueDivide"},
}
_ARGUMENTS = {
    **{"slice_spec": "key", "shape": "newshape", "perm": "axes", "b": "y", "depth": "num_classes"},
    **{"clip_value_min": "x_min", "clip_value_max": "x_max"},
}


def _use(node: Any) -> Use:
    """One call of a layer, as Keras 2 or 3 has it."""
    if isinstance(node, dict):
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise Unfit("a call has no args and kwargs, expected a list and a mapping")
        return Use([_tensors(one) for one in args], {key: _tensors(one) for key, one in kwargs.items()})
    if not isinstance(node, list):
        raise Unfit(f"a call is {shown(repr(node), 60)}, expected a list")
    if _is_ref(node) or node[:1] == [_CONSTANT]:  # one value
        node = [node]
    values, kwargs = [], {}
    for one in node:
        constant = isinstance(one, list) and len(one) == 4 and one[0] == _CONSTANT
        if not _is_ref(one) and not constant:
            raise Unfit(f"a call reads {shown(repr(one), 60)}, expected [layer, call, output, arguments]")
        values.append(one[2] if constant else Ref(*one[:3]))
        if len(one) > 3 and isinstance(one[3], dict):
            kwargs |= {key: _old(value) for key, value in one[3].items()}
    return Use(values if len(values) == 1 else [values], kwargs)


def _is_ref(one: Any) -> bool:
    return (
        isinstance(one, list)
        and len(one) in (3, 4)
        and isinstance(one[0], str)
        and all(isinstance(number, int) and not isinstance(number, bool) for number in one[1:3])
    )


def _old(value: Any, depth: int = 0) -> Any:
    """An argument of Keras 2, in which values are lists."""
    if depth > MAX_NESTED:
        raise Unfit("arguments are nested too deep")
    if _is_ref(value):
        return value[3] if value[0] == _CONSTANT and len(value) > 3 else Ref(*value[:3])
    if isinstance(value, list):
        return [_old(one, depth + 1) for one in value]
    if isinstance(value, dict) and value.keys() == {"start", "stop", "step"}:
        return slice(*(value[key] for key in ("start", "stop", "step")))
    return ... if value == {"class_name": "__ellipsis__"} else value


def _tensors(value: Any, depth: int = 0) -> Any:
    """An argument of Keras 3, in which values are mappings."""
    if depth > MAX_NESTED:
        raise Unfit("arguments are nested too deep")
    if isinstance(value, list):
        return [_tensors(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":
        history = value.get("config", {}).get("keras_history")
        if not _is_ref(history):
            raise Unfit("a call reads a value without a history")
        return Ref(*history)
    if value.get("class_name") == "__slice__":
        return slice(*(value["config"][key] for key in ("start", "stop", "step")))
    if value.get("class_name") == "__ellipsis__":
        return ...
    return {key: _tensors(one, depth + 1) for key, one in value.items()}


def ports(given: Any, what: str) -> dict[str, Ref] | list[Ref]:
    """The inputs or outputs of a functional model: a list, or a mapping with names."""
    if _is_ref(given):
        return [Ref(*given[:3])]
    many: Any = given.values() if isinstance(given, dict) else given
    if not isinstance(given, (list, dict)) or not given or not all(map(_is_ref, many)):
        raise Unfit(f"{what} is {shown(repr(given), 60)}, expected [layer, call, output] or several of them")
    if isinstance(given, dict):
        return {key: Ref(*one[:3]) for key, one in given.items()}
    return [Ref(*one[:3]) for one in given]


def snake(name: str) -> str:
    """The name that Keras 3 gives to layers of a class in files: ``ReLU`` is ``re_lu``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def first_calls(entries: list[Entry], outs: Iterable[Ref]) -> dict[str, int]:
    """The number of the first call of each model within a model: 1 if its own inputs count as a call."""
    models = {entry.name for entry in entries if entry.kind in SEQUENTIAL + FUNCTIONAL}
    refs = [ref for entry in entries for use in entry.uses for ref in use.refs()]
    found: dict[str, int] = {}
    for ref in (*refs, *outs):
        if ref.layer in models:
            found[ref.layer] = min(found.get(ref.layer, 1), ref.call)
    return found


# Operations by which Keras 3 writes into a model what becomes of masks.
_OF_MASKS = (
    *("All", "Any", "Cast", "Concatenate", "ConvertToTensor", "ExpandDims", "LogicalAnd", "LogicalOr"),
    *("NotEqual", "OnesLike", "ZerosLike"),
)


def mask_inputs(entries: list[Entry]) -> set[Ref]:
    """The inputs that layers read as masks, and not otherwise."""
    inputs = {entry.name for entry in entries if _is_input(entry)}
    uses = [use for entry in entries for use in entry.uses]
    masks = [use.kwargs.get("mask") for use in uses]
    found = {ref for ref in masks if isinstance(ref, Ref) and ref.layer in inputs}
    reads = [ref for use in uses for ref in use.refs()]
    return {ref for ref in found if reads.count(ref) == masks.count(ref)}


def without_masks(entries: list[Entry]) -> set[tuple[str, int]]:
    """Take the masks out of the calls of a model of Keras 3; returns the calls that compute them.

    A mask that marks where an input of indices is 0 becomes that input.

    Raises
    ------
    Unfit
        If a mask is another one than that of a Masking or an Embedding, which lengths stand for.
    """
    by_name = {entry.name: entry for entry in entries}
    masks = mask_inputs(entries)
    marked: list[tuple[Any, Any]] = []  # the values that are compared with a number, and the number
    for entry in entries:
        number = entry.get("mask_value", 0.0) if entry.kind == "Masking" else 0
        if entry.kind == "Masking" or (entry.kind == "Embedding" and entry.get("mask_zero", False)):
            marked += [(use.args[:1], number) for use in entry.uses]
    left: list[tuple[Entry, Ref]] = []
    found: set[tuple[str, int]] = set()
    for entry in entries:
        for use in entry.uses:
            mask = use.kwargs.get("mask")
            if not isinstance(mask, Ref) or mask in masks:
                continue
            if (indices := _compared(by_name, mask)) and (indices, 0) not in marked:
                found.add((mask.layer, mask.call))
                use.kwargs["mask"] = indices[0]
            else:
                left.append((entry, use.kwargs.pop("mask")))
    while left:
        reader, ref = left.pop()
        entry = by_name.get(ref.layer, reader)
        known = entry.kind in _OF_MASKS and 0 <= ref.call < len(entry.uses) and entry is not reader
        use = entry.uses[ref.call] if known else Use([], {})
        if not known or (entry.kind == "NotEqual" and (use.args[:1], use.args[-1]) not in marked):
            raise Unfit(
                f"layer {shown(reader.name)}: reads a mask that the model computes, expected an input, or "
                "that of a Masking or an Embedding: give lengths in place of it"
            )
        if (ref.layer, ref.call) in found:
            continue
        found.add((ref.layer, ref.call))
        if entry.kind not in ("NotEqual", "OnesLike", "ZerosLike"):
            left += [(reader, one) for one in use.refs()]
    return found


def _compared(by_name: Mapping[str, Entry], mask: Ref) -> list[Ref] | None:
    """The input of a model that a mask compares with 0, in a list; None of other masks."""
    entry = by_name.get(mask.layer)
    if entry is None or entry.kind != "NotEqual" or not 0 <= mask.call < len(entry.uses):
        return None
    read, number = [*entry.uses[mask.call].args, None, None][:2]
    other = by_name.get(read.layer) if isinstance(read, Ref) else None
    return [read] if other is not None and _is_input(other) and number == 0 else None


def in_order(
    entries: list[Entry], first: Mapping[str, int], error: Callable[[str], Exception]
) -> list[tuple[Entry, int]]:
    """All calls of a functional model, each behind those that it reads; ``first`` as of `first_calls`.

    Raises
    ------
    Exception
        Of ``error``, if a call reads itself, or what is not there.
    """
    by_name = {entry.name: entry for entry in entries}
    waits: dict[tuple[str, int], int] = {}
    readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for entry in entries:
        for i, use in enumerate(entry.uses):
            reads = {(ref.layer, ref.call - first.get(ref.layer, 0)) for ref in use.refs()}
            for layer, call in reads:
                other = by_name.get(layer)
                count = (
                    0 if other is None else max(1, len(other.uses)) if _is_input(other) else len(other.uses)
                )
                if not 0 <= call < count:
                    raise error(
                        f"layer {shown(entry.name)}: reads call {call} of {shown(layer)}, which is not there"
                    )
            reads = {one for one in reads if not _is_input(by_name[one[0]])}
            waits[entry.name, i] = len(reads)
            for one in reads:
                readers.setdefault(one, []).append((entry.name, i))
    ready = [one for one, count in waits.items() if not count][::-1]
    found = []
    while ready:
        one = ready.pop()
        found.append((by_name[one[0]], one[1]))
        for reader in readers.get(one, ())[::-1]:
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    if len(found) < len(waits):
        stuck = next(name for (name, _), count in waits.items() if count)
        raise error(
            f"layer {shown(stuck)}: got what it writes itself as its input, expected a graph without circles"
        )
    return found


def _is_input(entry: Entry) -> bool:
    return entry.kind == "InputLayer"
