"""Types of the public names; `names.py` has their modules at run time."""

from tinyrnn import callbacks as callbacks, inspect as inspect, losses as losses, optim as optim
from tinyrnn._core import (
    available_isas as available_isas,
    isa as isa,
    set_isa as set_isa,
)
from tinyrnn.activations import (
    CELU as CELU,
    ELU as ELU,
    GELU as GELU,
    SELU as SELU,
    Abs as Abs,
    Clip as Clip,
    Exp as Exp,
    Hardsigmoid as Hardsigmoid,
    Hardswish as Hardswish,
    Hardtanh as Hardtanh,
    LeakyReLU as LeakyReLU,
    Log as Log,
    LogSigmoid as LogSigmoid,
    Mish as Mish,
    Neg as Neg,
    Power as Power,
    PReLU as PReLU,
    Reciprocal as Reciprocal,
    ReLU as ReLU,
    ReLU6 as ReLU6,
    Scale as Scale,
    Sigmoid as Sigmoid,
    Sign as Sign,
    SiLU as SiLU,
    Softplus as Softplus,
    Softsign as Softsign,
    Sqrt as Sqrt,
    Tanh as Tanh,
    Tanhshrink as Tanhshrink,
)
from tinyrnn.attention import (
    AdditiveAttention as AdditiveAttention,
    DotProductAttention as DotProductAttention,
)
from tinyrnn.blocks import (
    AttentionPooling as AttentionPooling,
)
from tinyrnn.cells import (
    QRNN as QRNN,
    FastGRNN as FastGRNN,
    FastGRNNCell as FastGRNNCell,
    IndRNN as IndRNN,
    IndRNNCell as IndRNNCell,
    Jordan as Jordan,
    JordanCell as JordanCell,
    MinGRU as MinGRU,
    MinGRUCell as MinGRUCell,
    MinLSTM as MinLSTM,
    MinLSTMCell as MinLSTMCell,
    QRNNCell as QRNNCell,
)
from tinyrnn.convolution import (
    Conv2d as Conv2d,
    ConvTranspose1d as ConvTranspose1d,
)
from tinyrnn.divergence import (
    Drift as Drift,
    drift as drift,
)
from tinyrnn.errors import (
    LoadError as LoadError,
    NonFiniteError as NonFiniteError,
    ShapeError as ShapeError,
    WeightsError as WeightsError,
)
from tinyrnn.frames import (
    Amax as Amax,
    Amin as Amin,
    Constant as Constant,
    LogSumExp as LogSumExp,
    Mean as Mean,
    Pad as Pad,
    Permute as Permute,
    Prod as Prod,
    Reshape as Reshape,
    Std as Std,
    Sum as Sum,
    Unflatten as Unflatten,
    Var as Var,
    VectorNorm as VectorNorm,
    pad as pad,
)
from tinyrnn.graph import (
    Graph as Graph,
)
from tinyrnn.history import (
    History as History,
)
from tinyrnn.initial import (
    manual_seed as manual_seed,
)
from tinyrnn.layers import (
    BatchNorm1d as BatchNorm1d,
    BatchNorm2d as BatchNorm2d,
    Conv1d as Conv1d,
    Dropout as Dropout,
    Embedding as Embedding,
    Flatten as Flatten,
    GroupNorm as GroupNorm,
    InstanceNorm1d as InstanceNorm1d,
    InstanceNorm2d as InstanceNorm2d,
    LayerNorm as LayerNorm,
    Linear as Linear,
    LogSoftmax as LogSoftmax,
    Softmax as Softmax,
)
from tinyrnn.loading import (
    load as load,
)
from tinyrnn.losses import (
    BCEWithLogitsLoss as BCEWithLogitsLoss,
    CrossEntropyLoss as CrossEntropyLoss,
    CTCLoss as CTCLoss,
    HuberLoss as HuberLoss,
    L1Loss as L1Loss,
    MSELoss as MSELoss,
)
from tinyrnn.modules.build import (
    from_torch as from_torch,
)
from tinyrnn.net import (
    Memory as Memory,
    Net as Net,
)
from tinyrnn.ops import (
    Add as Add,
    Concat as Concat,
    Delay as Delay,
    Divide as Divide,
    Equal as Equal,
    Feedback as Feedback,
    Greater as Greater,
    GreaterEqual as GreaterEqual,
    Less as Less,
    LessEqual as LessEqual,
    Matmul as Matmul,
    Maximum as Maximum,
    Minimum as Minimum,
    Multiply as Multiply,
    NotEqual as NotEqual,
    Pow as Pow,
    Slice as Slice,
    Subtract as Subtract,
    Where as Where,
    concat as concat,
    eq as eq,
    ge as ge,
    gt as gt,
    le as le,
    lt as lt,
    matmul as matmul,
    maximum as maximum,
    minimum as minimum,
    ne as ne,
    split as split,
    stack as stack,
    where as where,
)
from tinyrnn.pooling import (
    AdaptiveAvgPool1d as AdaptiveAvgPool1d,
    AdaptiveAvgPool2d as AdaptiveAvgPool2d,
    AdaptiveMaxPool1d as AdaptiveMaxPool1d,
    AdaptiveMaxPool2d as AdaptiveMaxPool2d,
    AvgPool1d as AvgPool1d,
    AvgPool2d as AvgPool2d,
    MaxPool1d as MaxPool1d,
    MaxPool2d as MaxPool2d,
)
from tinyrnn.quantization import (
    quantize as quantize,
)
from tinyrnn.recurrent import (
    GRU as GRU,
    LSTM as LSTM,
    RNN as RNN,
    GRUCell as GRUCell,
    LSTMCell as LSTMCell,
    RNNCell as RNNCell,
)
from tinyrnn.sequential import (
    Sequential as Sequential,
)
from tinyrnn.streams import (
    State as State,
    Stream as Stream,
)
from tinyrnn.temporal import (
    Align as Align,
    FinalState as FinalState,
    LastStep as LastStep,
    Masking as Masking,
    MaxOverTime as MaxOverTime,
    MeanOverTime as MeanOverTime,
    Repeat as Repeat,
    SumOverTime as SumOverTime,
    TimeAvgPool1d as TimeAvgPool1d,
    TimeConv1d as TimeConv1d,
    TimeMaxPool1d as TimeMaxPool1d,
    TimeUnfold as TimeUnfold,
)
from tinyrnn.values import (
    Input as Input,
    Value as Value,
)
from tinyrnn.verification import (
    Verification as Verification,
    verify as verify,
)
from tinyrnn.weights import (
    load_weights as load_weights,
)

__version__: str
__all__: list[str]
