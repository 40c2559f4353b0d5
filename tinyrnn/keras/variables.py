"""The weights of each layer of Keras: their names, their order, and their places in files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinyrnn.importing import Unfit
from tinyrnn.keras.config import (
    FUNCTIONAL,
    MAX_NESTED,
    SEQUENTIAL,
    Entry,
    entry_of,
    layers_of,
    snake,
)


class Slot(NamedTuple):
    """One tensor of a layer.

    Attributes
    ----------
    place : str
        Of the layer within the layer: ``"cell/"``.
    name : str
    number : int
        Its place among the layer's own tensors.
    trains : bool
    """

    place: str
    name: str
    number: int
    trains: bool = True


def _if(entry: Entry, key: str, *names: str) -> tuple[str, ...]:
    return names if entry.get(key, True) else ()


def _kernel(entry: Entry) -> tuple[str, ...]:
    return ("kernel", *_if(entry, "use_bias", "bias"))


def _cell(entry: Entry) -> tuple[str, ...]:
    return ("kernel", "recurrent_kernel", *_if(entry, "use_bias", "bias"))


def _cudnn(entry: Entry) -> tuple[str, ...]:
    return "kernel", "recurrent_kernel", "bias"


def _separable(entry: Entry) -> tuple[str, ...]:
    return ("depthwise_kernel", "pointwise_kernel", *_if(entry, "use_bias", "bias"))


def _scaled(entry: Entry) -> tuple[str, ...]:
    return (*_if(entry, "scale", "gamma"), *_if(entry, "center", "beta"))


def _normalized(entry: Entry) -> tuple[str, ...]:
    return (*_scaled(entry), "moving_mean", "moving_variance")


def _attention(entry: Entry) -> tuple[str, ...]:
    scale = ("scale",) if entry.get("use_scale", entry.kind == "AdditiveAttention") else ()
    return (*scale, *(("concat_score_weight",) if entry.get("score_mode") == "concat" else ()))


# The tensors of a layer by its class, in Keras' order. Others have none.
TENSORS: dict[str, Callable[[Entry], tuple[str, ...]]] = {
    "AdditiveAttention": _attention,
    "Attention": _attention,
    "BatchNormalization": _normalized,
    "Conv1D": _kernel,
    "Conv1DTranspose": _kernel,
    "Conv2D": _kernel,
    "CuDNNGRU": _cudnn,
    "CuDNNLSTM": _cudnn,
    "Dense": _kernel,
    "DepthwiseConv1D": _kernel,
    "DepthwiseConv2D": _kernel,
    "EinsumDense": lambda entry: ("kernel", *(("bias",) if entry.get("bias_axes") else ())),
    "Embedding": lambda entry: ("embeddings",),
    "GRUCell": _cell,
    "GroupNormalization": _scaled,
    "LSTMCell": _cell,
    "LayerNormalization": _scaled,
    "Normalization": lambda entry: () if entry.get("mean") is not None else ("mean", "variance", "count"),
    "PReLU": lambda entry: ("alpha",),
    "RMSNormalization": lambda entry: ("scale",),
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "SimpleRNNCell": _cell,
    "SpectralNormalization": lambda entry: ("vector_u",),
}
_FIXED = ("moving_mean", "moving_variance", "mean", "variance", "count", "vector_u")
WRAPPERS = ("SpectralNormalization", "TimeDistributed")
_WITH_CELL = ("GRU", "LSTM", "SimpleRNN")
_HEADS = ("query_dense", "key_dense", "value_dense", "output_dense")


def backward_of(entry: Entry) -> Entry:
    """The layer of the second direction of a Bidirectional: the file's, or the first one reversed."""
    if isinstance(entry.get("backward_layer"), dict):
        return entry_of(entry.config["backward_layer"])
    first = entry_of(entry.get("layer"))
    first.config = {**first.config, "go_backwards": not first.get("go_backwards", False)}
    return first


def parts_of(entry: Entry) -> list[tuple[str, Entry]]:
    """The layers within a layer that have tensors, each with its place."""
    if entry.kind in _WITH_CELL:
        return [("cell/", Entry(f"{entry.kind}Cell", entry.name, {**entry.config, "trainable": True}))]
    if entry.kind == "RNN":
        return [("cell/", entry_of(entry.get("cell")))]
    if entry.kind == "StackedRNNCells":
        return numbered("cells/", cells_of(entry))
    if entry.kind == "Bidirectional":
        return [("forward_layer/", entry_of(entry.get("layer"))), ("backward_layer/", backward_of(entry))]
    if entry.kind in WRAPPERS:
        return [("layer/", entry_of(entry.get("layer")))]
    if entry.kind == "MultiHeadAttention":
        use_bias = {"use_bias": entry.get("use_bias", True)}
        return [(f"{name}/", Entry("Dense", name, use_bias)) for name in _HEADS]
    if entry.kind in SEQUENTIAL + FUNCTIONAL:
        layers = [one for one in layers_of(entry) if not one.operation]
        if entry.kind in SEQUENTIAL:
            layers = [one for one in layers if one.kind != "InputLayer"]
        return numbered("layers/", layers)
    return []


def cells_of(entry: Entry) -> list[Entry]:
    """The cells of a stack."""
    cells = entry.get("cells")
    if not isinstance(cells, list) or not 1 <= len(cells) <= 1024:
        raise Unfit("cells is no list of 1 .. 1024 cells")
    return [entry_of(one) for one in cells]


def numbered(base: str, entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """Layers with their places in a file of Keras 3: by class, ``lstm``, ``lstm_1``."""
    seen: Counter[str] = Counter()
    found = []
    for entry in entries:
        name = snake(entry.kind)
        number = f"_{seen[name]}" if seen[name] else ""
        seen[name] += 1
        found.append((f"{base}{name}{number}/", entry))
    return found


def slots_of(entry: Entry, place: str = "", trains: bool = True, depth: int = 0) -> list[Slot]:
    """All tensors of a layer and of those within it, in Keras' order."""
    if depth > MAX_NESTED:
        raise Unfit(f"layers are nested too deep, expected at most {MAX_NESTED}")
    trains = trains and bool(entry.get("trainable", True))
    names = TENSORS[entry.kind](entry) if entry.kind in TENSORS else ()
    found = [Slot(place, name, i, trains and name not in _FIXED) for i, name in enumerate(names)]
    for inner, part in parts_of(entry):
        found += slots_of(part, place + inner, trains, depth + 1)
    return found


def in_file_order(slots: Sequence[Slot]) -> list[Slot]:
    """Tensors as a whole model in HDF5 lists them: those that train first."""
    return sorted(slots, key=lambda slot: not slot.trains)


def custom_names(entry: Entry, custom: Any) -> Any:
    """The value that a caller gives for a layer, by its name, its registered name or its class; or None."""
    return next((custom[key] for key in (entry.name, entry.registered, entry.kind) if key in custom), None)
