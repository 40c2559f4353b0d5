# ruff: noqa: B007, B905, E741
"""Modules in the ways of tutorials and notebooks, for `from_torch`: `MODELS` has each with its inputs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

MODELS = {}


def noise(*shape):
    return torch.randn(*shape)


def case(make):
    """A model, and its inputs by batch and steps."""

    def kept(kind):
        MODELS[kind.__name__] = kind, make
        return kind

    return kept


@case(lambda b, t: (noise(b, t, 4),))
class Forecaster(nn.Module):
    """An encoder, and a decoder over so many copies of its state."""

    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(4, 16, batch_first=True)
        self.dec = nn.LSTM(16, 16, batch_first=True)
        self.out = nn.Linear(16, 1)
        self.horizon = 12

    def forward(self, x):
        _, (h, c) = self.enc(x)
        d = h[-1].unsqueeze(1).repeat(1, self.horizon, 1)
        y, _ = self.dec(d, (h, c))
        return self.out(y).squeeze(-1)


@case(lambda b, t: (noise(b, t, 4),))
class Seq2SeqCell(nn.Module):
    """A decoder of cells that reads its own outputs."""

    def __init__(self):
        super().__init__()
        self.enc = nn.GRU(4, 16, batch_first=True)
        self.cell = nn.GRUCell(1, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        _, h = self.enc(x)
        h = h[-1]
        y = x[:, -1, :1]
        outs = []
        for i in range(5):
            h = self.cell(y, h)
            y = self.out(h)
            outs.append(y)
        return torch.cat(outs, 1)


@case(lambda b, t: (noise(b, t, 4),))
class Seq2SeqLayer(nn.Module):
    """A decoder that is a layer, called for one step at a time."""

    def __init__(self):
        super().__init__()
        self.enc = nn.LSTM(4, 16, batch_first=True)
        self.dec = nn.LSTM(1, 16, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        _, (h, c) = self.enc(x)
        y = x[:, -1:, :1]
        outs = []
        for i in range(6):
            o, (h, c) = self.dec(y, (h, c))
            y = self.out(o)
            outs.append(y)
        return torch.cat(outs, dim=1)


@case(lambda b, t: (noise(b, 1, 16, 4 * t),))
class CRNN(nn.Module):
    """Pictures of text: convolutions, then both directions along the width."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((2, 1), (2, 1)),
            nn.Conv2d(12, 12, (4, 1)),
            nn.ReLU(),
        )
        self.rnn = nn.LSTM(12, 10, bidirectional=True)
        self.fc = nn.Linear(20, 7)

    def forward(self, x):
        c = self.cnn(x)
        h = c.size(2)
        assert h == 1
        c = c.squeeze(2).permute(2, 0, 1)
        r, _ = self.rnn(c)
        T, b, h = r.size()
        o = self.fc(r.view(T * b, h)).view(T, b, -1)
        return F.log_softmax(o, 2)


@case(lambda b, t: (noise(b, t, 5),))
class VAEGRU(nn.Module):
    """A variational autoencoder, whose noise is of training."""

    def __init__(self):
        super().__init__()
        self.enc = nn.GRU(5, 12, batch_first=True)
        self.mu = nn.Linear(12, 3)
        self.lv = nn.Linear(12, 3)
        self.up = nn.Linear(3, 12)
        self.dec = nn.GRU(12, 12, batch_first=True)
        self.out = nn.Linear(12, 5)

    def reparam(self, mu, lv):
        if self.training:
            return mu + torch.exp(0.5 * lv) * torch.randn_like(lv)
        return mu

    def forward(self, x):
        _, h = self.enc(x)
        h = h.squeeze(0)
        mu, lv = self.mu(h), self.lv(h)
        z = self.reparam(mu, lv)
        d = self.up(z).unsqueeze(1).expand(-1, x.size(1), -1)
        y, _ = self.dec(d)
        return self.out(y), mu, lv


@case(lambda b, t: (torch.randint(0, 20, (b, t)), torch.randint(0, 20, (b, t))))
class Siamese(nn.Module):
    """A Manhattan LSTM: two sequences by the same layers."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(20, 8)
        self.l = nn.LSTM(8, 6, batch_first=True, bidirectional=True)

    def one(self, x):
        return self.l(self.e(x))[0].mean(1)

    def forward(self, a, b):
        return torch.exp(-torch.sum(torch.abs(self.one(a) - self.one(b)), dim=1))


@case(lambda b, t: (noise(b, t, 4),))
class LearnedState(nn.Module):
    """States that begin with parameters."""

    def __init__(self):
        super().__init__()
        self.l = nn.LSTM(4, 6, 2, batch_first=True)
        self.h0 = nn.Parameter(noise(2, 1, 6))
        self.c0 = nn.Parameter(noise(2, 1, 6))
        self.f = nn.Linear(6, 2)

    def forward(self, x):
        b = x.size(0)
        o, _ = self.l(x, (self.h0.expand(-1, b, -1).contiguous(), self.c0.repeat(1, b, 1)))
        return self.f(o)


@case(lambda b, t: (noise(b, t, 8),))
class ResidualStack(nn.Module):
    """Layers in a list, with norms, around which their inputs go."""

    def __init__(self):
        super().__init__()
        self.ls = nn.ModuleList([nn.LSTM(8, 8, batch_first=True) for _ in range(3)])
        self.ns = nn.ModuleList([nn.LayerNorm(8) for _ in range(3)])
        self.d = nn.Dropout(0.1)
        self.f = nn.Linear(8, 2)

    def forward(self, x):
        for i, (l, n) in enumerate(zip(self.ls, self.ns)):
            y, _ = l(n(x))
            x = x + self.d(y) if i % 2 == 0 else x + 0.5 * y
        return self.f(x)


@case(lambda b, t: (noise(b, t, 6),))
class HighwayNet(nn.Module):
    """Highway layers before a GRU."""

    def __init__(self):
        super().__init__()
        self.h = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.g = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.l = nn.GRU(6, 5, batch_first=True)

    def forward(self, x):
        for h, g in zip(self.h, self.g):
            t = torch.sigmoid(g(x))
            x = t * F.relu(h(x)) + (1 - t) * x
        return self.l(x)[0]


@case(lambda b, t: (noise(b, t, 6),))
class StatsPool(nn.Module):
    """Mean and deviation over the steps, as x-vectors have."""

    def __init__(self):
        super().__init__()
        self.g = nn.GRU(6, 5, batch_first=True)
        self.f = nn.Linear(10, 2)

    def forward(self, x):
        o, _ = self.g(x)
        return self.f(torch.cat([o.mean(1), o.std(1)], 1))


@case(lambda b, t: (noise(b, t, 6),))
class ZScore(nn.Module):
    """Each sequence made of mean 0 and deviation 1, and back (RevIN)."""

    def __init__(self):
        super().__init__()
        self.g = nn.GRU(6, 5, batch_first=True)
        self.f = nn.Linear(5, 1)

    def forward(self, x):
        m = x.mean(1, keepdim=True)
        sd = x.std(1, keepdim=True, unbiased=False) + 1e-5
        return self.f(self.g((x - m) / sd)[0][:, -1]) * sd[:, 0, :1] + m[:, 0, :1]


@case(lambda b, t: (noise(b, t, 8),))
class SinPos(nn.Module):
    """Positions of sine and cosine, Vaswani's buffer."""

    def __init__(self):
        super().__init__()
        pe = torch.zeros(500, 8)
        p = torch.arange(500).unsqueeze(1).float()
        d = torch.exp(torch.arange(0, 8, 2).float() * (-math.log(10000.0) / 8))
        pe[:, 0::2] = torch.sin(p * d)
        pe[:, 1::2] = torch.cos(p * d)
        self.register_buffer("pe", pe.unsqueeze(0))
        self.g = nn.GRU(8, 5, batch_first=True)

    def forward(self, x):
        return self.g(x + self.pe[:, : x.size(1)])[0]


@case(lambda b, t: (torch.randint(0, 20, (b, t)),))
class LearnPos(nn.Module):
    """Positions that are learned."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(20, 8)
        self.p = nn.Embedding(400, 8)
        self.g = nn.GRU(8, 5, batch_first=True)

    def forward(self, x):
        return self.g(self.e(x) + self.p(torch.arange(x.size(1), device=x.device)).unsqueeze(0))[0][:, -1]


@case(lambda b, t: (noise(b, t, 8),))
class Bahdanau(nn.Module):
    """Additive attention in a decoder of cells."""

    def __init__(self):
        super().__init__()
        self.enc = nn.GRU(8, 10, batch_first=True)
        self.cell = nn.GRUCell(11, 10)
        self.W = nn.Linear(10, 10)
        self.U = nn.Linear(10, 10)
        self.v = nn.Linear(10, 1)
        self.o = nn.Linear(10, 1)

    def forward(self, x):
        H, h = self.enc(x)
        h = h[0]
        y = x.new_zeros(x.size(0), 1)
        outs = []
        for _ in range(4):
            a = F.softmax(self.v(torch.tanh(self.W(H) + self.U(h).unsqueeze(1))), dim=1)
            ctx = torch.bmm(a.transpose(1, 2), H).squeeze(1)
            h = self.cell(torch.cat([y, ctx], 1), h)
            y = self.o(h)
            outs.append(y)
        return torch.cat(outs, 1)


@case(lambda b, t: (noise(b, t, 6),))
class FlipGRU(nn.Module):
    """Both directions by hand."""

    def __init__(self):
        super().__init__()
        self.f = nn.GRU(6, 5, batch_first=True)
        self.b = nn.GRU(6, 5, batch_first=True)
        self.o = nn.Linear(10, 2)

    def forward(self, x):
        a, _ = self.f(x)
        b, _ = self.b(torch.flip(x, [1]))
        return self.o(torch.cat([a, torch.flip(b, [1])], -1))


@case(lambda b, t: (noise(b, t, 3, 8, 8),))
class ConvLSTM(nn.Module):
    """A ConvLSTM of pictures."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3 + 4, 16, 3, padding=1)
        self.o = nn.Conv2d(4, 1, 1)

    def forward(self, x):
        B, T = x.shape[:2]
        h = x.new_zeros(B, 4, 8, 8)
        c = x.new_zeros(B, 4, 8, 8)
        outs = []
        for t in range(T):
            i, f, g, o = self.c(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outs.append(self.o(h))
        return torch.stack(outs, 1)


@case(lambda b, t: (noise(b, t, 8), noise(b, 6)))
class StaticFeat(nn.Module):
    """States that begin with what is known of the whole sequence."""

    def __init__(self):
        super().__init__()
        self.h = nn.Linear(6, 7)
        self.c = nn.Linear(6, 7)
        self.l = nn.LSTM(8, 7, batch_first=True)
        self.f = nn.Linear(13, 1)

    def forward(self, x, z):
        o, _ = self.l(x, (torch.tanh(self.h(z)).unsqueeze(0), torch.tanh(self.c(z)).unsqueeze(0)))
        return self.f(torch.cat([o[:, -1], z], 1))


@case(lambda b, t: (noise(b, t, 5), torch.randint(0, 6, (b, t)), torch.randint(0, 4, (b, t))))
class TabularSeq(nn.Module):
    """Numbers and categories at each step."""

    def __init__(self):
        super().__init__()
        self.a = nn.Embedding(6, 3)
        self.b = nn.Embedding(4, 2)
        self.p = nn.Sequential(nn.Linear(10, 12), nn.LayerNorm(12), nn.ReLU())
        self.l = nn.LSTM(12, 8, 2, batch_first=True, bidirectional=True)
        self.f = nn.Sequential(nn.Linear(16, 10), nn.SELU(), nn.Linear(10, 1))

    def forward(self, x, a, b):
        y = self.p(torch.cat([x, self.a(a), self.b(b)], -1))
        y, _ = self.l(y)
        return self.f(y)


@case(lambda b, t: (noise(b, t, 6),))
class DayLast(nn.Module):
    """The last three steps."""

    def __init__(self):
        super().__init__()
        self.l = nn.GRU(6, 5, batch_first=True)
        self.f = nn.Linear(15, 3)

    def forward(self, x):
        o, _ = self.l(x)
        return self.f(o[:, -3:].reshape(x.size(0), -1))


@case(lambda b, t: (noise(b, t, 6),))
class CumFeat(nn.Module):
    """Sums of the steps so far."""

    def __init__(self):
        super().__init__()
        self.l = nn.GRU(6, 5, batch_first=True)

    def forward(self, x):
        return self.l(torch.cumsum(x, 1))[0]


@case(lambda b, t: (noise(b, t, 6),))
class SEBlock(nn.Module):
    """LSTM-FCN with squeeze and excitation."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv1d(6, 8, 3, padding=1)
        self.bn = nn.BatchNorm1d(8)
        self.a = nn.AdaptiveAvgPool1d(1)
        self.f = nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8), nn.Sigmoid())
        self.l = nn.LSTM(6, 8, batch_first=True)
        self.o = nn.Linear(16, 3)

    def forward(self, x):  # LSTM-FCN
        y, _ = self.l(x)
        c = F.relu(self.bn(self.c(x.permute(0, 2, 1))))
        w = self.f(self.a(c).squeeze(-1)).unsqueeze(-1)
        c = (c * w).mean(-1)
        return self.o(torch.cat([y[:, -1], c], 1))


@case(lambda b, t: (noise(b, t, 6),))
class MinGated(nn.Module):
    """A minimal gated unit with a norm."""

    def __init__(self):
        super().__init__()
        self.i = nn.Linear(6, 8)
        self.h = nn.Linear(8, 8, bias=False)
        self.z = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x):
        h = torch.zeros(x.size(0), 8, device=x.device)
        ys = []
        for xt in torch.unbind(x, 1):
            z = torch.sigmoid(self.z(xt))
            h = (1 - z) * h + z * torch.tanh(self.norm(self.i(xt) + self.h(h)))
            ys.append(h)
        return torch.stack(ys, dim=1)


@case(lambda b, t: (noise(b, t, 6),))
class DotAttn(nn.Module):
    """Attention whose query is the last state."""

    def __init__(self):
        super().__init__()
        self.l = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.f = nn.Linear(10, 2)

    def forward(self, x):
        o, (h, _) = self.l(x)
        q = torch.cat([h[0], h[1]], -1).unsqueeze(2)
        sc = torch.bmm(o, q).squeeze(2) / math.sqrt(10)
        a = F.softmax(sc, 1)
        return self.f(torch.bmm(o.transpose(1, 2), a.unsqueeze(2)).squeeze(2)), a


class LNLSTMCell(nn.Module):
    """An LSTM with layer normalisation."""

    def __init__(self, i, h):
        super().__init__()
        self.i = nn.Linear(i, 4 * h, bias=False)
        self.h = nn.Linear(h, 4 * h)
        self.li = nn.LayerNorm(4 * h)
        self.lh = nn.LayerNorm(4 * h)
        self.lc = nn.LayerNorm(h)

    def forward(self, x, st):
        h, c = st
        g = self.li(self.i(x)) + self.lh(self.h(h))
        i, f, g, o = torch.chunk(g, 4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.lc(c))
        return h, c


@case(lambda b, t: (noise(b, t, 6),))
class LNLSTM(nn.Module):
    """Two of its kind, one upon the other."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList([LNLSTMCell(6, 5), LNLSTMCell(5, 5)])
        self.f = nn.Linear(5, 1)

    def forward(self, x, states=None):
        B, T, _ = x.size()
        states = [(torch.zeros(B, 5), torch.zeros(B, 5)) for _ in self.cells] if states is None else states
        outs = []
        for t in range(T):
            y = x[:, t]
            for i, c in enumerate(self.cells):
                h, cc = c(y, states[i])
                states[i] = (h, cc)
                y = h
            outs.append(y)
        return self.f(torch.stack(outs, dim=1))


@case(lambda b, t: (noise(b, t, 6),))
class MoE(nn.Module):
    """A mixture of GRUs."""

    def __init__(self):
        super().__init__()
        self.ex = nn.ModuleList([nn.GRU(6, 5, batch_first=True) for _ in range(3)])
        self.gate = nn.Linear(6, 3)

    def forward(self, x):
        g = F.softmax(self.gate(x), -1)
        o = torch.stack([e(x)[0] for e in self.ex], -1)
        return (o * g.unsqueeze(2)).sum(-1)


@case(lambda b, t: (noise(b, t, 6),))
class LastTwo(nn.Module):
    """The last step less the one before."""

    def __init__(self):
        super().__init__()
        self.g = nn.GRU(6, 5, batch_first=True)

    def forward(self, x):
        o = self.g(x)[0]
        return o[:, -1] - o[:, -2]


@case(lambda b, t: (noise(b, t, 6),))
class FirstLast(nn.Module):
    """The last step of one direction and the first of the other."""

    def __init__(self):
        super().__init__()
        self.g = nn.LSTM(6, 5, batch_first=True, bidirectional=True)

    def forward(self, x):
        o = self.g(x)[0].view(x.size(0), x.size(1), 2, 5)
        return torch.cat([o[:, -1, 0], o[:, 0, 1]], -1)


@case(lambda b, t: (noise(b, t, 6),))
class FirstStep(nn.Module):
    """States that begin with the first step."""

    def __init__(self):
        super().__init__()
        self.g = nn.GRU(6, 5, batch_first=True)
        self.i = nn.Linear(6, 5)

    def forward(self, x):
        h0 = torch.tanh(self.i(x[:, 0])).unsqueeze(0)
        return self.g(x, h0)[0]


@case(lambda b, t: (noise(b, t, 6),))
class ShiftCat(nn.Module):
    """Each step beside the one before, which begins with a parameter."""

    def __init__(self):
        super().__init__()
        self.g = nn.GRU(12, 5, batch_first=True)
        self.sos = nn.Parameter(noise(1, 1, 6))

    def forward(self, x):
        p = torch.cat([self.sos.expand(x.size(0), -1, -1), x[:, :-1]], 1)
        return self.g(torch.cat([x, p], -1))[0]
