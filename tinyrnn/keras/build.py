"""Nets of Keras files: the layers of an architecture, called in their order on values of tinyrnn.

Axis 1 of an input of three axes or more is time, as of an input of indices. What a model tells of its inputs
only further down, that one has indices or that two have as many steps, begins the walk again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinyrnn.attributes import brief
from tinyrnn.errors import LoadError
from tinyrnn.graph import Graph as Net
from tinyrnn.importing import Unfit, warn, weighted
from tinyrnn.keras.config import (
    FUNCTIONAL,
    MAX_LAYERS,
    MAX_NESTED,
    SEQUENTIAL,
    Entry,
    Ref,
    entry_of,
    first_calls,
    in_order,
    layers_of,
    mask_inputs,
    ports,
    without_masks,
)
from tinyrnn.keras.functions import FUNCTIONS, OVER_AXIS, name_of
from tinyrnn.keras.layers import LAYERS, OPERATIONS
from tinyrnn.keras.model import Model, major_of, parse
from tinyrnn.keras.symbols import Call, Retry, Seen
from tinyrnn.keras.variables import custom_names, in_file_order, parts_of, slots_of
from tinyrnn.layers import Embedding
from tinyrnn.net import Net as AnyNet
from tinyrnn.values import TIME, Input, Value, applied
from tinyrnn.weights import WeightsFile
from tinyrnn.weights.spec import Array, shown

MOST_PASSES = 200
MOST_CALLS = 20_000
MOST_ROWS = 1024  # of a frame that become steps: each step multiplies with all of them
# What archives of Keras 2 have in place of "layers/", and before the parts of a MultiHeadAttention.
_CHECKPOINT = "_layer_checkpoint_dependencies/"
_HEAD = re.compile(r"/((?:query|key|value|output)_dense)/")

# What a layer or NumPy raises where a file asks for something that cannot be.
_WRONG = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, AssertionError)

# What calls a layer: values, and the arguments with values in them.
Run = Callable[[Entry, list[Seen], list[Any], dict[str, Any]], list[Seen]]

# Layers that need steps: with one of them, an input of four axes or more has axis 1 as time.
_NEEDS_TIME = (
    *("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "TimeDistributed", "CuDNNLSTM", "CuDNNGRU"),
    *("Masking", "ConvLSTM1D", "ConvLSTM2D"),
)

# Layers that no net has, and what to do.
_GIVE = "give a layer or function of values for it, load(path, custom={{{0!r}: ...}})"
_CHANNELS = f"has a state of channels and places, no net has that: {_GIVE}"
_TEXT = "makes indices of text or numbers, a net begins with indices: save the model without it"
_REFUSED = {
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), _CHANNELS),
    **dict.fromkeys(
        ("Discretization", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization"), _TEXT
    ),
}
_UNKNOWN = f"is not known, and code in a file never runs: {_GIVE}; known are those of docs/keras.md"

# Layers that read an input as a mask.
_READ_MASKS = ("Bidirectional", "GRU", "GlobalAveragePooling1D", "LSTM", "RNN", "SimpleRNN")

# Layers whose output has the mask of their input.
_PASS_MASKS = (
    *("Activation", "Add", "Average", "BatchNormalization", "Bidirectional", "Concatenate", "Dense"),
    *("Dropout", "GRU", "LSTM", "LayerNormalization", "LeakyReLU", "Masking", "Maximum", "Minimum"),
    *("Multiply", "RNN", "ReLU", "SimpleRNN", "SpatialDropout1D", "Subtract", "TimeDistributed"),
)


class Builder:
    """One walk through a model.

    Attributes
    ----------
    kinds : dict of str to str
        Inputs that are known to be ``"index"``.
    """

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, custom: Mapping[str, Any]) -> None:
        self.model, self.file, self.plan, self.custom = model, file, plan, custom
        self.major = model.major
        self.kinds = plan.kinds
        self.layers: dict[str, Any] = {}
        self.inputs: dict[str, Seen] = {}
        self.counts: dict[int, Input] = {}  # the inputs that only have so many steps
        self.embedded: dict[str, Value] = {}  # what an Embedding makes of inputs of indices
        self.names: set[str] = set()
        self.named: set[int] = set()
        self.prefix: list[str] = []
        self.heeded = self.dropped = ""
        self.within_step = False  # of a TimeDistributed
        self.masks: dict[str, Value] = {}  # by `Seen.masked`, if the net computes them
        self.marks: dict[str, Value] = {}  # of inputs of indices
        self.calls = 0

    # ---- for layers --------------------------------------------------------------------------------------

    def tensor(self, path: str, name: str) -> Array:
        return self.plan.tensor(path, name)

    def name(self, value: Value, layer: str, key: str) -> None:
        """Name the layer that wrote a value, at its first call."""
        if value.layer is None or id(value.layer) in self.named:
            return
        self.named.add(id(value.layer))
        parts = [
            *self.prefix,
            layer,
            *(one for one in key.split("/") if one not in ("", "both", "cell", "layer")),
        ]
        text = base = ".".join(
            one
            for one in ("".join(c if c.isalnum() or c in "_-" else "_" for c in part) for part in parts)
            if one
        )
        number = 0
        while text in self.names:
            number += 1
            text = f"{base}_{number}"
        self.names.add(text)
        value.named(text)

    def activated(self, x: Seen, given: Any) -> Seen:
        """An activation by its name, a layer of activation, or one that the caller gives."""
        if isinstance(given, dict) and given.get("class_name") in LAYERS:
            found = self.one(entry_of(given), [x], [x], {}, "")
            assert isinstance(found, Seen)
            return found
        name = name_of(given)
        if name in self.custom:
            return x.mapped(self.custom[name])
        if name not in FUNCTIONS:
            raise Unfit(
                f"the activation {shown(name)} is not known: give a layer or a function for it, "
                f"load(path, custom={{{shown(name)!r}: ...}})"
            )
        if name == "linear":
            return x
        function = FUNCTIONS[name](self.major)
        return x.new(function(x.last()), x.shape) if name in OVER_AXIS else x.mapped(function)

    def heeds(self, x: Seen) -> Seen:
        """Note that a layer leaves out the steps that a mask marks."""
        if x.lost:
            self.drops(x)
        elif x.masked:
            self.heeded = x.masked
            self.check_masks()
        return x

    def loses(self, x: Seen) -> Seen:
        """A value behind what has no mask in Keras: it matters only if a layer reads its steps later."""
        computes = self.plan.computes_masks or x.masked in self.masks
        return replace(x, masked="" if computes else x.masked, lost=bool(x.masked) and not computes)

    def mask(self, x: Seen) -> Value | None:
        """The mask for a layer that leaves out steps; None where lengths say them."""
        if x.masked not in self.masks or x.backwards:  # Keras turns the steps, and leaves the mask as it is
            self.heeds(x)
        return self.masks.get(x.masked)

    def new_mask(self, name: str, mask: Value | None = None) -> str:
        """The name of a mask: another one than those that the net computes, if it is none of them."""
        for known, value in self.masks.items():
            if value is mask:
                return known
        while name in self.masks:
            name += "'"
        if mask is not None:
            self.masks[name] = mask
        return name

    def drops(self, x: Seen) -> None:
        """Note that a layer reads the steps that a mask marks as any others."""
        if x.masked:
            self.dropped = x.masked
            self.check_masks()

    def check_masks(self) -> None:
        if self.dropped and not self.plan.computes_masks:
            raise Retry("masks")
        if self.heeded and (self.plan.computes_masks or self.heeded in self.masks):
            raise Unfit(
                f"leaves out the steps that {shown(self.heeded)} masks, where other layers read them as any "
                "others: lengths cannot say both, and of its mask a net makes no value"
            )

    def with_steps(self, count: int) -> Value:
        """An input that has so many steps, or a new one that a call leaves out."""
        for name, one in self.inputs.items():
            value = one.value if one.value.frame else self.embedded.get(name)
            if one.timed and one.steps == count and value is not None:
                return value
        name = f"{count}_steps"
        self.plan.has_time_now = True
        return self.counts.setdefault(count, Input(1, time=name, name=name, steps=count))

    def sequence(self, x: Seen) -> Seen:
        """A sequence, also where its steps are the first axis of a frame."""
        x = x.whole()
        spreads = self.plan.spreads and not self.within_step
        if x.timed or not spreads or not 2 <= len(x.shape) <= 4 or x.shape[0] > MOST_ROWS:
            return x
        return x.in_steps(self.with_steps(x.shape[0]))

    def is_index(self, x: Seen) -> bool:
        return isinstance(x.value, Input) and self.kinds.get(str(x.value.label)) == "index"

    def index(self, x: Seen) -> Value:
        """An input of indices. If it is not known as one yet, the net is built anew."""
        if not isinstance(x.value, Input):
            raise Unfit("reads what a layer wrote, expected an input of the net")
        if not self.is_index(x):
            raise Retry("index", str(x.value.label))
        return x.value

    def looked_up(self, x: Seen, table: Array) -> Value:
        """The rows of a table that is no tensor of the file."""
        return applied(weighted(Embedding(*table.shape), weight=table).freeze(), (self.index(x),))

    def not_zero(self, x: Seen) -> Value:
        """A mask: 0 where an input of indices is 0, else 1."""
        label = str(x.value.label)
        if label not in self.embedded:
            raise Unfit(f"reads a mask of {shown(label)}, expected an Embedding of it before")
        if label not in self.marks:
            rows = self.embedded[label].layer.num_embeddings
            self.marks[label] = self.looked_up(x, np.arange(rows)[:, None] != 0)
        return self.marks[label]

    # ---- layers ------------------------------------------------------------------------------------------

    def one(
        self, entry: Entry, given: list[Seen], args: list[Any], kwargs: dict[str, Any], path: str
    ) -> list[Seen] | Seen:
        """The values of one call of a layer."""
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise Unfit(f"got more than {MOST_CALLS} calls of layers, expected a smaller model")
        own = custom_names(entry, self.custom)
        if own is not None:
            self.plan.skip(path)
            return self.of_caller(entry, own, given)
        if entry.kind in SEQUENTIAL + FUNCTIONAL and not entry.operation:
            self.prefix.append(entry.name)
            outputs = self.walk(entry, given, path)
            self.prefix.pop()
            return outputs if len(outputs) > 1 else outputs[0]
        if isinstance(kwargs.get("mask"), Seen) and entry.kind not in _READ_MASKS:
            raise Unfit("reads a mask that is an input, which recurrent layers and means over the steps do")
        if entry.kind == "TimeDistributed":
            return self.distributed(entry, given, args, kwargs, path)
        if entry.kind == "SpectralNormalization" and given[0].shape:  # the file has the normalised kernel
            self.plan.skip(path)
            return self.one(entry_of(entry.get("layer")), given, args, kwargs, f"{path}layer/")
        # A layer of several values may have the name of an operation.
        merges = len(args) == 1 and isinstance(args[0], list) and entry.kind in LAYERS
        operates = entry.operation or (entry.operation is None and entry.kind in OPERATIONS)
        table: Mapping[str, Callable[[Call], Any]] = OPERATIONS if operates and not merges else LAYERS
        if entry.kind not in table:
            why = _REFUSED.get(entry.kind, _UNKNOWN)
            raise Unfit(f"{shown(entry.kind)} {why.format(shown(entry.kind))}")
        found: list[Seen] | Seen = table[entry.kind](Call(entry, given, args, kwargs, self, path))
        if operates:
            return [self.loses(one) for one in found] if isinstance(found, list) else self.loses(found)
        if self.masks and entry.kind not in _PASS_MASKS:
            for one in found if isinstance(found, list) else [found]:
                self.heeds(replace(one, masked=one.masked if any(x.masked for x in given) else ""))
        return found

    def of_caller(self, entry: Entry, own: Any, given: list[Seen]) -> Seen:
        """The value of a layer or a function that the caller gives."""
        value = own(*(one.whole().last() for one in given))
        if not isinstance(value, Value):
            raise Unfit(f"custom gives {brief(value)}, expected a layer or a function that returns a value")
        if isinstance(own, AnyNet):
            self.name(value, entry.name, "")
        like = next((one for one in given if one.value.time == value.time), None)
        if like is None:
            return Seen(value, value.frame, value.time is not None)
        return like.new(value)

    def distributed(
        self, entry: Entry, given: list[Seen], args: list[Any], kwargs: dict[str, Any], path: str
    ) -> list[Seen] | Seen:
        """TimeDistributed: a layer for each step by itself."""
        inner = entry_of(entry.get("layer"))
        inner.name = inner.name or entry.name
        given = [self.sequence(one) for one in given]
        if not all(one.timed for one in given):
            raise Unfit("reads frames without steps, expected a sequence")
        hidden = [
            replace(one, timed=False, steps=None, backwards=False, masked="", lost=False) for one in given
        ]
        within_step, self.within_step = self.within_step, True
        found = self.one(inner, hidden, [*hidden], {}, f"{path}layer/")
        self.within_step = within_step

        def shown_again(one: Seen) -> Seen:
            first = given[0]
            kept: dict[str, Any] = {"masked": first.masked, "lost": first.lost, "backwards": first.backwards}
            return replace(one, timed=True, steps=first.steps, **kept)

        return [shown_again(one) for one in found] if isinstance(found, list) else shown_again(found)

    # ---- models ------------------------------------------------------------------------------------------

    def walk(self, model: Entry, given: list[Seen] | None, path: str) -> list[Seen]:
        """The outputs of a model, which reads these values, or inputs of the net."""
        if len(self.prefix) > MAX_NESTED:
            raise Unfit(f"models are nested too deep, expected at most {MAX_NESTED}")
        entries = layers_of(model)
        if not entries:
            raise Unfit("has no layers")
        places = {entry.name: path + place for place, entry in parts_of(model)}

        def run(entry: Entry, values: list[Seen], args: list[Any], kwargs: dict[str, Any]) -> list[Seen]:
            try:
                found = self.one(entry, values, args, kwargs, places.get(entry.name, path))
            except Retry:
                raise
            except _WRONG as problem:
                if isinstance(problem, LoadError):
                    raise
                where = ".".join(map(shown, [*self.prefix, entry.name]))
                raise self.file.error(f"layer {where} ({shown(entry.kind)}): {problem}") from None
            return found if isinstance(found, list) else [found]

        return (self.row if model.kind in SEQUENTIAL else self.graph)(model, entries, given, run)

    def row(self, model: Entry, entries: list[Entry], given: list[Seen] | None, run: Run) -> list[Seen]:
        """The outputs of a Sequential."""
        values = given
        for i, entry in enumerate(entries):
            if i and entry.kind == "InputLayer":
                raise Unfit(f"layer {shown(entry.name)} is an input behind others, expected it first")
            values = values or [self.input(entry, model)]
            if entry.kind != "InputLayer":
                values = run(entry, values, [*values], {})
            if len(values) > 1 and i < len(entries) - 1:
                raise Unfit(f"layer {shown(entry.name)} returns {len(values)} values in a row of layers")
        return values or []

    def graph(self, model: Entry, entries: list[Entry], given: list[Seen] | None, run: Run) -> list[Seen]:
        """The outputs of a functional model."""
        if not self.prefix:
            self.kinds.update({ref.layer: "mask" for ref in mask_inputs(entries)})
        known = self.inputs_of(model, entries, given)

        def found(thing: Any, entry: Entry) -> Any:
            """An argument with values in the place of what stands for them."""
            if isinstance(thing, Ref):
                if thing not in known:
                    raise self.file.error(
                        f"layer {shown(entry.name)}: reads output {thing.output} of "
                        f"{shown(thing.layer)}, which no net has: the scores of an attention, or a mask"
                    )
                return known[thing]
            if isinstance(thing, (list, tuple)):
                return [found(one, entry) for one in thing]
            return (
                {key: found(one, entry) for key, one in thing.items()} if isinstance(thing, dict) else thing
            )

        outs = self.listed(ports(model.get("output_layers"), "output_layers"))
        masks = without_masks(entries)
        begin = first_calls(entries, [ref for _, ref in outs])
        for entry, number in in_order(entries, begin, self.file.error):
            if entry.kind == "InputLayer" or (entry.name, number) in masks:
                continue
            use = entry.uses[number]
            mask = use.kwargs.get("mask")
            refs = [found(ref, entry) for ref in use.refs() if ref is not mask]
            for i, one in enumerate(run(entry, refs, found(use.args, entry), found(use.kwargs, entry))):
                known[Ref(entry.name, number + begin.get(entry.name, 0), i)] = one
        if not self.prefix:
            self.plan.outputs = [name for name, _ in outs]
        return [found(ref, model) for _, ref in outs]

    def inputs_of(self, model: Entry, entries: list[Entry], given: list[Seen] | None) -> dict[Ref, Seen]:
        """The inputs of a functional model."""
        known: dict[Ref, Seen] = {}
        ins = self.listed(ports(model.get("input_layers"), "input_layers"))
        if given is not None and len(given) != len(ins):
            raise Unfit(f"reads {len(given)} values, expected {len(ins)}")
        for i, (_, ref) in enumerate(ins):
            first = next((one for one in entries if one.name == ref.layer), None)
            if first is None or first.kind != "InputLayer":
                raise Unfit(f"input_layers names {shown(ref.layer)}, expected an InputLayer")
            known[Ref(ref.layer, 0, 0)] = given[i] if given is not None else self.input(first, model)
        return known

    def listed(self, given: dict[str, Ref] | list[Ref]) -> list[tuple[str, Ref]]:
        """Values with their names."""
        if isinstance(given, dict):
            return list(given.items())
        found: list[tuple[str, Ref]] = []
        for ref in given:
            names = [name for name, _ in found]
            name, number = ref.layer, 0
            while name in names:
                number += 1
                name = f"{ref.layer}_{number}"
            found.append((name, ref))
        return found

    def input(self, entry: Entry, model: Entry) -> Seen:
        """An input of the net."""
        shape = entry.get("batch_shape") or entry.get("batch_input_shape")
        if shape is None and entry.kind != "InputLayer":
            shape = model.get("build_input_shape") or entry.shape
        name = entry.name if entry.kind == "InputLayer" else "x"
        shape = self.plan.shapes.get(name, shape)
        sizes = list(shape) if isinstance(shape, (list, tuple)) else []
        fits = all(one is None or (isinstance(one, int) and 1 <= one <= 2**28) for one in sizes)
        if not sizes or not fits or len(sizes) > 5:
            raise self.file.error(
                f"input {shown(name)} has shape {shown(repr(shape), 60)}, expected two to five sizes: the "
                f"model was saved before it was built: load(path, shapes={{{shown(name)!r}: (..., 40)}})"
            )
        is_mask = self.kinds.get(name) == "mask" and len(sizes) == 2
        if len(sizes) == 2 and sizes[1] is None and not is_mask:
            self.kinds[name] = "index"
        is_index = self.kinds.get(name) == "index"
        timed = len(sizes) == 3 or (len(sizes) > 3 and self.plan.needs_time) or (is_index and len(sizes) == 2)
        steps_alone = is_mask or (self.plan.stepped and len(sizes) == 2 and not is_index)
        timed = (timed or steps_alone) and not self.plan.untimed
        frame = sizes[1 + timed :]
        if None in frame:
            raise self.file.error(
                f"input {shown(name)} has shape {tuple(sizes)}, expected the sizes of its frames, "
                f"{tuple(frame)}: load(path, shapes={{{shown(name)!r}: (...)}})"
            )
        own = TIME if self.plan.one_input or not timed else name
        time: str | None = self.plan.times.get(own, own)
        if not timed and self.plan.has_time:
            time = None
        value = Input(*([1] if steps_alone else frame), time=time, name=name)
        self.inputs[name] = Seen(value, tuple(frame), timed, sizes[1] if timed else None)
        if timed:
            self.plan.has_time_now = True
        return self.inputs[name]


class Plan:
    """The things learned of a model, and its tensors.

    Attributes
    ----------
    kinds : dict of str to str
        Inputs that are indices.
    times : dict of str to str
        The names of the axes of time of inputs that share one.
    """

    def __init__(self, model: Model, file: WeightsFile, shapes: Mapping[str, Any]) -> None:
        assert model.config is not None
        self.file, self.shapes = file, dict(shapes)
        self.kinds: dict[str, str] = {}
        self.times: dict[str, str] = {}
        self.outputs: list[str] = []
        self.untimed = self.stepped = self.spreads = False  # the ways of `_otherwise`
        self.has_time = self.has_time_now = self.computes_masks = False
        self.root = entry_of(model.config)
        if self.root.kind not in SEQUENTIAL + FUNCTIONAL:
            raise Unfit(
                f"is a model of type {shown(self.root.kind)}, whose code is not in the file, expected a "
                "Sequential or a functional model: build the net, and use tinyrnn.load_weights(path)"
            )
        given = self.root.get("input_layers")
        self.one_input = self.root.kind in SEQUENTIAL or (
            given is not None and len(ports(given, "input_layers")) == 1
        )
        self.needs_time = _has_kind(self.root, _NEEDS_TIME, 0)
        self.weights = file.weights()
        self.names = _tensor_names(self.root, model, file, self.weights)
        self.used: set[str] = set()
        self.skipped: list[str] = []

    def tensor(self, path: str, name: str) -> Array:
        key = f"{path}{name}"
        if key not in self.names:
            raise Unfit(
                f"the file lacks its tensor {shown(name)}: if another layer shares it, save the model as .h5"
            )
        self.used.add(self.names[key])
        return np.asarray(self.weights[self.names[key]], np.float32)

    def skip(self, path: str) -> None:
        self.skipped.append(path)

    def learn(self, found: Retry) -> None:
        if found.what == "masks":
            self.computes_masks = True
            return
        if found.what == "index":
            self.kinds[found.names[0]] = "index"
            return
        one, other = found.names[:2]
        self.times = {name: one if time == other else time for name, time in self.times.items()}
        self.times[other] = one

    def check_all_used(self) -> None:
        """Raise an error if the file has weights that no layer reads."""
        skipped = {self.names[key] for key in self.names if any(key.startswith(one) for one in self.skipped)}
        known = self.used | skipped
        left = [
            name
            for name in self.weights
            if name not in known
            and "seed_generator" not in name
            and not any(one and one in name for one in self.skipped)
        ]
        if left:
            raise Unfit(f"holds tensors that no layer reads: {', '.join(map(shown, left[:5]))}")


def _has_kind(entry: Entry, kinds: Sequence[str], depth: int) -> bool:
    """True if a model has a layer of these classes."""
    if depth > MAX_NESTED:
        raise Unfit(f"models are nested too deep, expected at most {MAX_NESTED}")
    if entry.kind in kinds:
        return True
    if entry.kind not in SEQUENTIAL + FUNCTIONAL:
        return False
    return any(_has_kind(one, kinds, depth + 1) for one in layers_of(entry))


def _tensor_names(
    root: Entry, model: Model, file: WeightsFile, weights: Mapping[str, Array]
) -> dict[str, str]:
    """The name in the file of each tensor, by the layer's place and its own name."""
    found: dict[str, str] = {}
    count = 0
    for place, entry in parts_of(root):
        slots = slots_of(entry)
        count += len(slots)
        if count > 50 * MAX_LAYERS:
            raise Unfit("got too many layers, expected a smaller model")
        if model.layers is None:
            for slot in slots:
                name = f"{place}{slot.place}vars/{slot.number}"
                others = (name.replace("layers/", _CHECKPOINT), _HEAD.sub(r"/_\1/", name))  # of Keras 2
                name = next((one for one in (name, *others) if one in weights), name)
                found[f"{place}{slot.place}{slot.name}"] = name
            continue
        names = model.layers.get(entry.name, ())
        if len(names) != len(slots):
            if not slots:
                continue  # the walk refuses it by name
            lora = ": save the model as .keras, which merges those of LoRA" if entry.get("lora_rank") else ""
            wanted = ", ".join(shown(slot.place + slot.name) for slot in slots)
            raise file.error(
                f"layer {shown(entry.name)} ({shown(entry.kind)}): got {len(names)} tensors, expected "
                f"{len(slots)}: {wanted}{lora}"
            )
        for slot, name in zip(in_file_order(slots), names, strict=True):
            found[f"{place}{slot.place}{slot.name}"] = name
    return {key: name for key, name in found.items() if name in weights}


def _net(builder: Builder, plan: Plan) -> Net:
    """The net of a model."""
    values = builder.walk(plan.root, None, "")
    if plan.has_time_now and not plan.has_time:
        plan.has_time = True
        if any(not one.timed for one in builder.inputs.values()):
            return _net(Builder(builder.model, builder.file, plan, builder.custom), plan)
    plan.check_all_used()
    names = plan.outputs or ["y"]
    if len(names) != len(values):
        names = [f"y{i}" for i in range(len(values))]
    outputs = {}
    for name, one in zip(names, values, strict=True):
        if one.backwards:
            raise Unfit(
                f"output {shown(name)} has the steps from the last to the first, expected their own order"
            )
        outputs[name] = one.whole().last()
    counts = {str(one.label): one for one in builder.counts.values()}
    if builder.heeded:
        warn(
            f"load: {shown(builder.heeded)} masks steps by their numbers, and a call is told of them: "
            "net(x, lengths=...). Without lengths no step is left out, nor is one in front or within"
        )
    return Net({name: one.value for name, one in builder.inputs.items()} | counts, outputs)


def build_net(
    file: WeightsFile,
    custom: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    architecture: str | None = None,
) -> Net:
    """Build the net of a Keras file.

    Parameters
    ----------
    file : WeightsFile
    custom : mapping, optional
        Layers of tinyrnn, or functions that take values and return one, by the name or the class of a layer
        that is not known, or by the name of an activation: ``{"Swish": tr.SiLU()}``.
    shapes : mapping, optional
        The shapes of inputs, by name, where the file leaves frames open: the batch first, then the steps,
        None for what varies.
    architecture : str, optional
        What `model.to_json()` of Keras wrote, for a file of weights alone.

    Raises
    ------
    LoadError
        If the file is damaged, or a layer is no part of a net: the message names it and its class.
    """
    model: Model = file.net
    if architecture is not None:
        if model.config is not None:
            raise file.error("has an architecture of its own, expected none beside: got architecture")
        config = parse(architecture, file.error, "architecture")
        model = model._replace(config=config, major=major_of(config.get("keras_version"), config))
    if model.config is None:
        raise file.error(
            "holds weights but no architecture: save the whole model as .keras, give its JSON, "
            "load(path, architecture=text), or build the net and use tinyrnn.load_weights(path)"
        )
    if model.major == 1:
        raise file.error("was saved by Keras 1, expected 2 or 3: load it in Keras 2 and save it again")
    try:
        plan = Plan(model, file, shapes or {})
        try:
            return _settled(model, file, plan, custom or {})
        except (LoadError, Unfit, *_WRONG) as problem:
            ways = ["stepped", "spreads"] if plan.needs_time else ["untimed", "stepped"]
            nets = (_otherwise(way, model, file, custom or {}, shapes or {}) for way in ways)
            net = next((one for one in nets if one is not None), None)
            if net is None:
                raise problem
            return net
    except (Unfit, *_WRONG) as problem:
        raise problem if isinstance(problem, LoadError) else file.error(f"model: {problem}") from None
    except (RecursionError, MemoryError) as problem:
        raise file.error(f"model: got {type(problem).__name__}, expected a smaller model") from None


def _otherwise(way: str, model: Model, file: WeightsFile, custom: Any, shapes: Any) -> Net | None:
    """Build the net in another way, or return None.

    Inputs are frames without steps (``"untimed"``) or all steps of a number (``"stepped"``), or frames become
    steps where a layer needs some (``"spreads"``).
    """
    plan = Plan(model, file, shapes)
    setattr(plan, way, True)
    try:
        return _settled(model, file, plan, custom)
    except (LoadError, Unfit, *_WRONG):
        return None


def _settled(model: Model, file: WeightsFile, plan: Plan, custom: Mapping[str, Any]) -> Net:
    """Build again and again until everything is known that the net needs."""
    for _ in range(MOST_PASSES):
        builder = Builder(model, file, plan, custom)
        plan.used, plan.skipped = set(), []
        try:
            return _net(builder, plan)
        except Retry as found:
            plan.learn(found)
        except (LoadError, Unfit, *_WRONG):
            if plan.has_time or not plan.has_time_now:
                raise
            plan.has_time = True  # another input has steps, so those without are one frame for a sequence
    raise file.error(f"model: its inputs are not settled after {MOST_PASSES} passes")
