"""tinyrnn: a minimal runtime for recurrent networks on embedded CPUs.

Layers have ``torch.nn``'s names, arguments and shapes; weights come from PyTorch's files without
PyTorch; ``net.stream()`` runs a net step by step. See README.md and docs/design.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinyrnn._core import available_isas, isa, set_isa
from tinyrnn.activations import (
    CELU,
    ELU,
    GELU,
    SELU,
    Abs,
    Clip,
    Exp,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    Log,
    LogSigmoid,
    Mish,
    Neg,
    Power,
    PReLU,
    Reciprocal,
    ReLU,
    ReLU6,
    Scale,
    Sigmoid,
    Sign,
    SiLU,
    Softplus,
    Softsign,
    Sqrt,
    Tanh,
    Tanhshrink,
)
from tinyrnn.attention import AdditiveAttention, DotProductAttention
from tinyrnn.attributes import absent_from
from tinyrnn.errors import LoadError, NonFiniteError, ShapeError, WeightsError
from tinyrnn.graph import Graph
from tinyrnn.initial import manual_seed
from tinyrnn.layers import (
    BatchNorm1d,
    Conv1d,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    Linear,
    LogSoftmax,
    Softmax,
)
from tinyrnn.net import Memory, Net
from tinyrnn.ops import (
    Add,
    Concat,
    Delay,
    Divide,
    Feedback,
    Maximum,
    Minimum,
    Multiply,
    Slice,
    Subtract,
    concat,
    maximum,
    minimum,
)
from tinyrnn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinyrnn.sequential import Sequential
from tinyrnn.streams import State, Stream
from tinyrnn.temporal import (
    FinalState,
    LastStep,
    MaxOverTime,
    MeanOverTime,
    Repeat,
    SumOverTime,
    TimeConv1d,
    TimeUnfold,
)
from tinyrnn.values import Input, Value

if TYPE_CHECKING:
    from tinyrnn import callbacks, inspect, losses, optim
    from tinyrnn.divergence import Drift, drift
    from tinyrnn.history import History
    from tinyrnn.loading import load
    from tinyrnn.losses import BCEWithLogitsLoss, CrossEntropyLoss, CTCLoss, HuberLoss, L1Loss, MSELoss
    from tinyrnn.quantization import quantize
    from tinyrnn.weights import load_weights

# Modules that a device that only streams never needs, imported on demand.
_LATER = {"Drift": "divergence", "drift": "divergence", "quantize": "quantization", "optim": "optim"}
_LATER |= {
    "load": "loading",
    "load_weights": "weights",
    "weights": "weights",
    "History": "history",
    "callbacks": "callbacks",
    "inspect": "inspect",
}
_LATER |= dict.fromkeys(
    (
        "losses",
        "BCEWithLogitsLoss",
        "CTCLoss",
        "CrossEntropyLoss",
        "HuberLoss",
        "L1Loss",
        "MSELoss",
    ),
    "losses",
)


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise absent_from(__name__, name, __all__)
    module = import_module(f"tinyrnn.{_LATER[name]}")
    return module if _LATER[name] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


__version__ = "0.1.0"

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "Abs",
    "Add",
    "AdditiveAttention",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "CTCLoss",
    "Clip",
    "Concat",
    "Conv1d",
    "CrossEntropyLoss",
    "Delay",
    "Divide",
    "DotProductAttention",
    "Drift",
    "Dropout",
    "Embedding",
    "Exp",
    "Feedback",
    "FinalState",
    "Flatten",
    "GRUCell",
    "Graph",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "History",
    "HuberLoss",
    "Input",
    "L1Loss",
    "LSTMCell",
    "LastStep",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LoadError",
    "Log",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MaxOverTime",
    "Maximum",
    "MeanOverTime",
    "Memory",
    "Minimum",
    "Mish",
    "Multiply",
    "Neg",
    "Net",
    "NonFiniteError",
    "PReLU",
    "Power",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "Reciprocal",
    "Repeat",
    "Scale",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "State",
    "Stream",
    "Subtract",
    "SumOverTime",
    "Tanh",
    "Tanhshrink",
    "TimeConv1d",
    "TimeUnfold",
    "Value",
    "WeightsError",
    "available_isas",
    "callbacks",
    "concat",
    "drift",
    "inspect",
    "isa",
    "load",
    "load_weights",
    "losses",
    "manual_seed",
    "maximum",
    "minimum",
    "optim",
    "quantize",
    "set_isa",
]
