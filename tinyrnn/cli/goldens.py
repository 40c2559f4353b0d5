"""Known results of every layer, cell, format, loss and optimiser: the same bits on every machine.

Inputs and weights come from an integer hash, so neither files nor a machine's mathematics are in them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tinyrnn as tr
from tinyrnn._core import is_fused
from tinyrnn.cli.console import BAD, GOOD, Finding
from tinyrnn.contract import index_count
from tinyrnn.formats import SMALLER
from tinyrnn.names import find

Parts = tuple[bytes, ...]  # float32, as `PARTS` names them

# The parts of a result. Without a fused multiply-add they may differ by these shares of the largest number.
PARTS = {"outputs": 1e-4, "gradients": 1e-4, "smaller formats": 0.1}
STEPS, BATCH = 5, 3


class Numbers:
    """Arrays of numbers between -1 and 1 that every machine has alike, each other ones."""

    used = 0

    def __call__(self, *shape: int) -> NDArray[np.float32]:
        bits = np.arange(self.used, self.used + math.prod(shape), dtype=np.uint32)
        self.used += bits.size
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):  # the end of MurmurHash3
            bits = (bits ^ bits >> np.uint32(shift)) * np.uint32(factor)
        return ((bits >> np.uint32(8)) / 2**23 - 1).astype(np.float32).reshape(shape)

    def below(self, count: int, *shape: int) -> NDArray[np.int32]:
        """Integers."""
        return ((self(*shape) + 1.0) * (count / 2)).astype(np.int32)


class _Names(dict[str, Any]):
    """The public names, beside those that are given."""

    def __missing__(self, name: str) -> Any:
        return find(name)


class Case(NamedTuple):
    """One row of the table."""

    text: str
    frames: list[tuple[int, ...]]
    crc: int  # -1 if nobody recorded it

    def prepare(self) -> Callable[[], Parts]:
        """Make what the row describes; the function computes it on the instruction set of the moment."""
        draw = Numbers()
        net: Any = tr.Linear(5, 4)
        inputs = [tr.Input(*frame) for frame in self.frames]
        names = _Names(zip("xyz", inputs, strict=False), net=net)
        made: Any = eval(self.text, {}, names)  # of the table below, nothing else
        if isinstance(made, tr.losses.Loss):
            return lambda: _of_loss(made)
        is_net = isinstance(made, (tr.Net, tr.Value))
        if is_net and not getattr(made, "_recurrent", True):
            made = made(*inputs)  # a layer alone would take PyTorch's axes
        made = tr.Graph(inputs, made) if isinstance(made, tr.Value) else made
        net = made if is_net else net  # else an optimiser of that one
        tensors = {name: _tensor(name, array, draw) for name, array in net.state_dict().items()}
        net.load_state_dict(tensors)
        lead, count = (STEPS, BATCH)["Cell(" in self.text :], index_count(net)
        xs = [draw.below(count, *lead) if count else 3 * draw(*lead, *frame) for frame in self.frames]
        smaller: list[Any] = [tr.quantize(net, name) for name in SMALLER if is_net and net.formats]

        def run() -> Parts:
            net.load_state_dict(tensors)
            y, back = net.eval()(*xs), _gradients(net, xs)
            if not is_net:
                optimizer = eval(self.text, {}, names)
                for _ in range(3):
                    optimizer.step()
                    back = _gradients(net, xs)
                y = tuple(net.state_dict().values())
            return _bytes(y), _bytes(back), _bytes(tuple(one(*xs) for one in smaller))

        return run


def cases() -> Iterator[Case]:
    """All rows of the table."""
    frames: list[tuple[int, ...]] = []
    crcs = iter(np.frombuffer(bytes.fromhex(CRCS), ">u4").tolist())
    for line in ROWS.splitlines():
        if line[0] == "@":
            frames = [tuple(map(int, frame.split())) for frame in line[1:].split(",")]
        else:
            yield Case(line, frames, next(crcs, -1))


def _tensor(name: str, array: NDArray[Any], draw: Numbers) -> NDArray[Any]:
    """A tensor's numbers, so small that rounding does not grow from step to step."""
    made = draw(*array.shape)
    if name.endswith("running_var"):
        return np.abs(made) + np.float32(0.5)
    made /= np.float32(1 << ((math.prod(array.shape[1:]) - 1).bit_length() + 1) // 2)  # about its root
    return made if array.dtype == made.dtype else np.zeros_like(array)


def _gradients(net: Any, xs: list[NDArray[Any]]) -> Any:
    """The gradients of inputs, states and weights; those of outputs are numbers."""
    draw, practice = Numbers(), net._practised()
    practice.seed, practice.passes = 1, 0  # of dropout's masks

    def like(y: Any) -> Any:
        return tuple(map(like, y)) if isinstance(y, tuple) else draw(*y.shape)

    net.train().zero_grad()
    dy = like(net(*xs))
    states = isinstance(dy, tuple) and xs[0].ndim == 3  # beside an output; those of a cell are its output
    return net.backward(*dy) if states else net.backward(dy), *net.grad_dict().values()


def _of_loss(loss: Any) -> Parts:
    draw = Numbers()
    y = 2 * draw(STEPS, BATCH, 5)
    target: Any = (draw(*y.shape) + 1) / 2
    if isinstance(loss, tr.CTCLoss):
        y, target = -np.abs(y), 1 + draw.below(4, BATCH, 2)
    elif loss._classes:
        target = draw.below(5, STEPS, BATCH)
    value, dy = loss(y, target)
    return _bytes(value), _bytes(dy), b""


def _bytes(result: Any) -> bytes:
    """The numbers of an array, or of arrays within tuples."""
    if isinstance(result, tuple):
        return b"".join(map(_bytes, result))
    return b"" if result is None else np.asarray(result, "<f4").tobytes()


# ---- checking -----------------------------------------------------------------------------------


class Checked(NamedTuple):
    """The results on one instruction set."""

    fused: bool
    same: bool  # bit for bit
    wrong: list[str]  # rows, with the parts that differ from a right result


def _differing(found: Parts, right: Parts, exactly: bool) -> Iterator[str]:
    for (name, share), *both in zip(PARTS.items(), found, right, strict=True):
        ours, theirs = (np.frombuffer(part, "<f4") for part in both)
        most = 0 if exactly else share * np.abs(theirs).max(initial=0)
        if not np.abs(ours - theirs).max(initial=0) <= most:
            yield name


def check(show: Callable[[float], None] = lambda done: None) -> dict[str, Checked]:
    """Compute all rows on each instruction set.

    One without a fused multiply-add must be near one with it, or the first, which then must have known bits.
    """
    chosen, rows = tr.isa(), list(cases())
    crcs = dict.fromkeys(tr.available_isas(), 0)
    wrong: dict[str, list[str]] = {isa: [] for isa in crcs}
    try:
        for done, case in enumerate(rows, 1):
            run, found = case.prepare(), {}
            for isa in crcs:
                tr.set_isa(isa)
                found[isa] = run()
                crcs[isa] = zlib.crc32(b"".join(found[isa]), crcs[isa])
            bad = {isa for isa in found if is_fused(isa) and case.crc != zlib.crc32(b"".join(found[isa]))}
            right = min(found, key=lambda isa: (isa in bad, not is_fused(isa)))
            for isa, parts in found.items():
                names = ", ".join(_differing(parts, found[right], is_fused(isa) and is_fused(right)))
                if isa in bad or names:
                    wrong[isa].append(f"{case.text} ({names or 'bits'})")
            show(done / len(rows))
    finally:
        tr.set_isa(chosen)
    same = {isa: not wrong[isa] if is_fused(isa) else crcs[isa] == UNFUSED for isa in crcs}
    first = next(iter(crcs))
    if not any(map(is_fused, crcs)) and not same[first]:
        wrong[first].append("its bits")
    return {isa: Checked(is_fused(isa), same[isa], wrong[isa]) for isa in crcs}


def findings(checked: dict[str, Checked]) -> Iterator[Finding]:
    """The results in words."""
    said: dict[str, list[str]] = {}
    for isa, (fused, same, wrong) in checked.items():
        if wrong:
            more = f" and {len(wrong) - 3} more" * (len(wrong) > 3)
            yield BAD, f"{isa}: other results than everywhere else: {', '.join(wrong[:3])}{more}"
            continue
        alike = (
            "has the same bits as everywhere" if same else "is right within rounding, with bits of its own"
        )
        said.setdefault(alike + ", without a fused multiply-add" * (not fused), []).append(isa)
    for text, isas in said.items():
        yield GOOD, f"{', '.join(isas)}: every layer and gradient {text}"


# ---- the table ----------------------------------------------------------------------------------

# A line that begins with @ has the frames of the inputs below it.
ROWS = """\
@ 37
ReLU()
LeakyReLU(0.2)
PReLU(37)
Sigmoid()
Tanh()
ELU(0.7)
SELU()
CELU(2.5)
GELU()
GELU('tanh')
SiLU()
Mish()
Softplus(1.5, 2.0)
LogSigmoid()
Softsign()
Tanhshrink()
Hardsigmoid()(Scale(4.0)(x))
Hardswish()(Scale(4.0)(x))
Hardtanh(-0.5, 2.0)
ReLU6()(Scale(4.0)(x))
Exp()
Log()(Abs()(x))
Sqrt()(Abs()(x))
Abs()
Sign()
Neg()
Reciprocal()
Power(3.0)
Power(-0.3)(Abs()(x))
Scale(-1.5, 0.25)
Clip(-0.5, 1.5)
Dropout(0.3)
LayerNorm(37)
Softmax(-1)
LogSoftmax(-1)
Linear(37, 19)
Constant(2.5)
Delay(37, 2)
Slice(3, 18)
LastStep()
SumOverTime()
MeanOverTime()
MaxOverTime()
TimeUnfold(3, padding='causal')
TimeMaxPool1d(2)
TimeAvgPool1d(2)
TimeConv1d(37, 5, 2)
TimeConv1d(37, 37, 3, 2, groups=37)
Masking()
Align(2)(x)
AttentionPooling(37, 6)
Repeat()(LastStep()(x), x)
Sequential(GRU(37, 18), FinalState(), Linear(18, 3))
@ 9
RNN(9, 17)
RNN(9, 17, 2, 'relu', bidirectional=True)
RNN(9, 17, nonlinearity='sigmoid')
RNN(9, 17, nonlinearity=('affine', 0.5, 0.1))
RNN(9, 17, nonlinearity='leaky_relu', clip=1.5)
RNN(9, 17, nonlinearity='thresholded_relu', clip=1.5)
RNN(9, 17, nonlinearity=('scaled_tanh', 1.2, 0.8))
RNN(9, 17, nonlinearity='hard_sigmoid')
RNN(9, 17, nonlinearity='elu', clip=1.5)
RNN(9, 17, nonlinearity='softsign')
RNN(9, 17, nonlinearity='softplus', clip=1.5)
RNN(9, 17, recurrent_dropout=0.3, zoneout=0.2)
GRU(9, 17)
GRU(9, 17, 2, bias=False, dropout=0.2, bidirectional=True)
GRU(9, 17, reset_after=False)
GRU(9, 17, activation='softsign', recurrent_activation='hard_sigmoid')
GRU(9, 17, reset_after=False, clip=0.9)
GRU(9, 17, layer_norm=True)
GRU(9, 17, recurrent_dropout=0.3, zoneout=0.2)
LSTM(9, 17)
LSTM(9, 17, 2, bias=False, dropout=0.2, bidirectional=True)
LSTM(9, 17, proj_size=5)
LSTM(9, 17).learn_initial_state()
LSTM(9, 17, peephole=True)
LSTM(9, 17, peephole='matrix')
LSTM(9, 17, coupled=True)
LSTM(9, 17, peephole=True, coupled=True)
LSTM(9, 17, peephole='matrix', coupled=True)
LSTM(9, 17, activation='softsign', recurrent_activation='hard_sigmoid')
LSTM(9, 17, output_activation='sigmoid', clip=0.7)
LSTM(9, 17, cell_clip=0.3)
LSTM(9, 17, layer_norm=True)
LSTM(9, 17, peephole=True, coupled=True, layer_norm=True)
LSTM(9, 17, recurrent_dropout=0.3, zoneout=0.1, zoneout_cell=0.4)
MinGRU(9, 17)
MinLSTM(9, 17)
QRNN(9, 17)
IndRNN(9, 17)
IndRNN(9, 17, nonlinearity='tanh')
FastGRNN(9, 17)
FastGRNN(9, 17, activation='softsign', recurrent_activation='hard_sigmoid')
FastGRNN(9, 17, u_rank=3, w_rank=4)
Jordan(9, 17, 5)
Jordan(9, 17, 5, activation='sigmoid', output_activation='relu')
RNNCell(9, 17)
GRUCell(9, 17)
LSTMCell(9, 17)
MinGRUCell(9, 17)
MinLSTMCell(9, 17)
QRNNCell(9, 17)
IndRNNCell(9, 17)
FastGRNNCell(9, 17)
JordanCell(9, 17, 5)
@ 70
Sequential(Linear(70, 40), LSTM(40, 64, 2), GRU(64, 33), Linear(33, 5), Softmax(-1))
@
Embedding(9, 37)
@ 4 9
Conv1d(4, 18, 3)
Conv1d(4, 4, 3, 2, 1, 2, groups=4)
ConvTranspose1d(4, 5, 3, 2)
BatchNorm1d(4)
GroupNorm(2, 4)
InstanceNorm1d(4, affine=True)
Flatten()
MaxPool1d(3, 2)
AvgPool1d(3, 2)
AdaptiveMaxPool1d(4)
AdaptiveAvgPool1d(4)
Reshape((6, 6))
Unflatten(-1, (3, 3))
Permute()
Pad((2, 1), 'reflect')
Sum(-1)
Mean(-1)
Amax(-1)
Amin(-1)
Prod(-1)
Var(-1)
Std(-1)
VectorNorm(-1)
LogSumExp(-1)
@ 3 6 7
Conv2d(3, 17, 3, padding=1)
Conv2d(3, 6, (3, 2), 2, groups=3)
BatchNorm2d(3)
InstanceNorm2d(3)
MaxPool2d(2)
AvgPool2d((2, 3))
AdaptiveMaxPool2d(2)
AdaptiveAvgPool2d((2, 3))
@ 4 9, 4 9
Add()(x, y)
Subtract()(x, y)
Divide()(x, y)
Minimum()(x, y)
Maximum()(x, y)
Pow()(Abs()(x), y)
Equal()(Sign()(x), Sign()(y))
NotEqual()(Sign()(x), Sign()(y))
Less()(x, y)
LessEqual()(Sign()(x), Sign()(y))
Greater()(x, y)
GreaterEqual()(Sign()(x), Sign()(y))
Matmul()(x, Permute()(y))
Concat()(x, y)
@ 4 9, 9
Multiply()(x, y)
Where()(Sign()(ReLU()(x)), x, y)
@ 12, 12, 6
DotProductAttention(12, 3)(x, y, z)
DotProductAttention(12, is_causal=True)(x, y, z)
AdditiveAttention(12)(x, y, z)
@ 5
MSELoss()
L1Loss('sum')
HuberLoss(delta=0.7)
CrossEntropyLoss(label_smoothing=0.1)
BCEWithLogitsLoss()
CTCLoss()
optim.SGD(net, momentum=0.9, nesterov=True)
optim.RMSprop(net, centered=True)
optim.Adagrad(net)
optim.Adam(net, amsgrad=True)
optim.AdamW(net)
"""

# tests/data/record_selftest.py writes the CRC-32 of each row with a fused multiply-add, and of all without.
CRCS = """\
b0c42cdd28259550be81ad490b0fb4b5632b8eba49f81a0ff443186b56e5cc308ecc1a56cf796087c9a896af969e8c3e9225b5c5
182a462d69390a5e8ae92a3f0b39e5b2b28d514244f9e421906d26065e140dcd49a22bb512c5579aafc4311197b6370b9cae0b9b
5aeeb867b6f5a5ea6597701f1eee15aac3d53513c21e742d71f066674f3219eee8f3b2acf1bbdd0d5e9e3f9feb4a27f0fd06eb4e
d8061528dc9a959d36381161bd36300d0590682a7415f9a818e20ae6d74ae14ed58cc022e4b6f7369638e64781325ecee926c3a5
5219a907a6a1c25f3235726d378d787841fff1b9bc8b5d5fc6d1f93e1fd1c4594119ff057297177939f7b12f10548d5a7fd2708f
f2133ed76c8bd4d1d25dbc914115afb5929d9d6653b41ca7cd6e95711fd56b1d39e757f86d60f2f71ce798754a57120afb0cde2a
b7eb66e04c3e1c06afaa5d477f09786b09f96274909e5767f9eb1c4d9654ce3634022b4c8d5c207247032cad02100c335a598b7d
7d8934b3e7430430b5d3f3d20a3dca51404e74dbadea9e8773a4033cc39408d6b7a419e8cd732a3d34372066a2cdfe0ab33170c0
1736a152622c0ef8fcb96ab191393e8d76a3424f561cb3f7defaa919ee0064b141efcce9c751b95b010a935ab9022698c90e79aa
b902269840a0913d010a935a010a935a2785f055240ef6a2359989f57fee7222987aeabe28a7cbff0c587bce731b646d80abf1c3
0fa73d3c92dee1d26e25a7ddd1c1eaea6f28de1a2fee4987c27de0a352da7688c31f2271edb391389c676c5a0505382095c96faf
0bb55d5be2839079ef32c04aeb46c8052e1b933ade06c48ffe9ab5a41b5b9fb05208d7fb24be9b270a181b42dbe4aaced80f12f0
a0fc953b589ae045fc76ca2d7dd4ccaf447b2854bae38e0f29c0388f9cea8b66e92a497feba065c4b026d4fd606f6b5bb37e05b5
7d67b99d
"""
UNFUSED = 0xF1788CC3
