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
from tinyrnn.convolution import Conv2d, ConvTranspose1d
from tinyrnn.errors import LoadError, NonFiniteError, ShapeError, WeightsError
from tinyrnn.frames import (
    Amax,
    Amin,
    Constant,
    LogSumExp,
    Mean,
    Pad,
    Permute,
    Prod,
    Reshape,
    Std,
    Sum,
    Unflatten,
    Var,
    VectorNorm,
    pad,
)
from tinyrnn.graph import Graph
from tinyrnn.initial import manual_seed
from tinyrnn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Dropout,
    Embedding,
    Flatten,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
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
    Equal,
    Feedback,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Matmul,
    Maximum,
    Minimum,
    Multiply,
    NotEqual,
    Pow,
    Slice,
    Subtract,
    Where,
    concat,
    eq,
    ge,
    gt,
    le,
    lt,
    matmul,
    maximum,
    minimum,
    ne,
    split,
    stack,
    where,
)
from tinyrnn.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from tinyrnn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinyrnn.sequential import Sequential
from tinyrnn.streams import State, Stream
from tinyrnn.temporal import (
    Align,
    FinalState,
    LastStep,
    MaxOverTime,
    MeanOverTime,
    Repeat,
    SumOverTime,
    TimeAvgPool1d,
    TimeConv1d,
    TimeMaxPool1d,
    TimeUnfold,
)
from tinyrnn.values import Input, Value

if TYPE_CHECKING:
    from tinyrnn import callbacks, inspect, losses, optim
    from tinyrnn.blocks import AttentionPooling
    from tinyrnn.divergence import Drift, drift
    from tinyrnn.history import History
    from tinyrnn.loading import load
    from tinyrnn.losses import BCEWithLogitsLoss, CrossEntropyLoss, CTCLoss, HuberLoss, L1Loss, MSELoss
    from tinyrnn.quantization import quantize
    from tinyrnn.weights import load_weights

# Modules that a device that only streams never needs, imported on demand.
_LATER = {
    "AttentionPooling": "blocks",
    "Drift": "divergence",
    "drift": "divergence",
    "quantize": "quantization",
    "optim": "optim",
}
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
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "Add",
    "AdditiveAttention",
    "Align",
    "Amax",
    "Amin",
    "AttentionPooling",
    "AvgPool1d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "CTCLoss",
    "Clip",
    "Concat",
    "Constant",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "CrossEntropyLoss",
    "Delay",
    "Divide",
    "DotProductAttention",
    "Drift",
    "Dropout",
    "Embedding",
    "Equal",
    "Exp",
    "Feedback",
    "FinalState",
    "Flatten",
    "GRUCell",
    "Graph",
    "Greater",
    "GreaterEqual",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "History",
    "HuberLoss",
    "Input",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "L1Loss",
    "LSTMCell",
    "LastStep",
    "LayerNorm",
    "LeakyReLU",
    "Less",
    "LessEqual",
    "Linear",
    "LoadError",
    "Log",
    "LogSigmoid",
    "LogSoftmax",
    "LogSumExp",
    "MSELoss",
    "Matmul",
    "MaxOverTime",
    "MaxPool1d",
    "MaxPool2d",
    "Maximum",
    "Mean",
    "MeanOverTime",
    "Memory",
    "Minimum",
    "Mish",
    "Multiply",
    "Neg",
    "Net",
    "NonFiniteError",
    "NotEqual",
    "PReLU",
    "Pad",
    "Permute",
    "Pow",
    "Power",
    "Prod",
    "RNNCell",
    "ReLU",
    "ReLU6",
    "Reciprocal",
    "Repeat",
    "Reshape",
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
    "Std",
    "Stream",
    "Subtract",
    "Sum",
    "SumOverTime",
    "Tanh",
    "Tanhshrink",
    "TimeAvgPool1d",
    "TimeConv1d",
    "TimeMaxPool1d",
    "TimeUnfold",
    "Unflatten",
    "Value",
    "Var",
    "VectorNorm",
    "WeightsError",
    "Where",
    "available_isas",
    "callbacks",
    "concat",
    "drift",
    "eq",
    "ge",
    "gt",
    "inspect",
    "isa",
    "le",
    "load",
    "load_weights",
    "losses",
    "lt",
    "manual_seed",
    "matmul",
    "maximum",
    "minimum",
    "ne",
    "optim",
    "pad",
    "quantize",
    "set_isa",
    "split",
    "stack",
    "where",
]
