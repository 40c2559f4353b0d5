# ruff: noqa: RUF059, B905, E501
"""Modules with forwards as users write them, for `from_torch`."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


class LastStep(nn.Module):
    def __init__(self, inputs=6, hidden=8, classes=3):
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, num_layers=2, batch_first=True, dropout=0.3)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        h0 = torch.zeros(2, x.size(0), 8).to(x.device)
        c0 = torch.zeros(2, x.size(0), 8).to(x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


class LastHidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x):
        _, h_n = self.rnn(x)
        return F.log_softmax(self.head(h_n[-1]), dim=1)


class BothEnds(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.fc(torch.cat((h[-2, :, :], h[-1, :, :]), dim=1))


class ViewedStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        _, (h, c) = self.lstm(x)
        h = h.view(2, 2, x.shape[0], 8)[-1]
        c = c.view(2, 2, -1, 8)[-1]
        both = torch.cat([h, c], dim=-1).permute(1, 0, 2).reshape(x.shape[0], -1)
        return self.fc(both)


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(6, 8, nonlinearity="relu", bidirectional=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        y, h = self.rnn(x)
        return self.out(y) * torch.sigmoid(h.sum(0).mean(-1, keepdim=True))


class Embedded(nn.Module):
    def __init__(self, tie=False):
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(17, 8, padding_idx=0)
        self.rnn = nn.LSTM(8, 8, 2)
        self.decoder = nn.Linear(8, 17)
        if tie:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        emb = self.drop(self.encoder(tokens))
        output, hidden = self.rnn(emb)
        return F.log_softmax(self.decoder(self.drop(output)), dim=-1)


class RowsByNumber(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows, self.rnn = rows, nn.GRU(17, 8, batch_first=True)
        self.register_buffer("eye", torch.eye(17))

    def forward(self, tokens):
        return self.rnn(self.rows(self.eye, tokens))[0]


class Residual(nn.Module):
    class Block(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.norm = nn.LayerNorm(size)
            self.rnn = nn.GRU(size, size, batch_first=True)
            self.mix = nn.Linear(size, 2 * size)

        def forward(self, x):
            residual = x
            y, _ = self.rnn(self.norm(x))
            a, b = self.mix(y).chunk(2, dim=-1)
            return residual + a * torch.sigmoid(b)

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 8)
        self.blocks = nn.ModuleList([self.Block(8) for _ in range(3)])
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = F.gelu(self.proj(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


class Additive(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 8, bidirectional=True, batch_first=True)
        self.attn = nn.Linear(16, 12)
        self.v = nn.Parameter(torch.randn(12))
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        h, _ = self.rnn(x)
        u = torch.tanh(self.attn(h))
        a = F.softmax(torch.matmul(u, self.v), dim=1).unsqueeze(-1)
        return self.fc(torch.sum(h * a, dim=1))


class AdditivePairs(nn.Module):
    """Each step attends to all by a sum, as diacritizers of Arabic have it."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 5, bidirectional=True, batch_first=True)
        self.query, self.keys = nn.Linear(10, 7), nn.Linear(10, 7, bias=False)
        self.score = nn.Linear(7, 1)

    def forward(self, x):
        h, _ = self.rnn(x)
        scores = self.score(torch.tanh(self.query(h).unsqueeze(2) + self.keys(h).unsqueeze(1))).squeeze(-1)
        return torch.bmm(torch.softmax(4 * scores, dim=-1), h)


class AttentionOverStates(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.label = nn.Linear(8, 3)

    def attention_net(self, output, final_state):
        hidden = final_state.squeeze(0)
        weights = torch.bmm(output, hidden.unsqueeze(2)).squeeze(2)
        soft = F.softmax(weights, 1)
        return torch.bmm(output.transpose(1, 2), soft.unsqueeze(2)).squeeze(2)

    def forward(self, x):
        output, (h, c) = self.lstm(x)
        return self.label(self.attention_net(output, h))


class Luong(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.W1, self.W2, self.V = nn.Linear(8, 5), nn.Linear(8, 5), nn.Linear(5, 1)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        keys, hidden = self.gru(x)
        query = hidden[-1].unsqueeze(1)
        score = self.V(torch.tanh(self.W1(keys) + self.W2(query)))
        weights = torch.softmax(score, dim=1)
        context = (weights * keys).sum(1)
        return self.out(torch.cat([context, query.squeeze(1)], -1))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.q, self.k, self.v = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        h, _ = self.rnn(x)
        q, k, v = self.q(h), self.k(h), self.v(h)
        scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.size(-1))
        h = h + torch.bmm(F.softmax(scores, dim=-1), v)
        return self.fc(h.max(dim=1)[0])


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 8)
        self.qkv = nn.Linear(8, 24)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.proj(x)
        b, t, c = x.shape
        q, k, v = self.qkv(x).split(8, dim=2)
        q, k, v = (one.view(b, t, 2, c // 2).transpose(1, 2) for one in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.fc(y.transpose(1, 2).contiguous().view(b, t, c))


class MaskedHeads(Heads):
    def forward(self, x):
        x = self.proj(x)
        b, t, c = x.shape
        q, k, v = (one.view(b, t, 2, c // 2).transpose(1, 2) for one in self.qkv(x).chunk(3, dim=-1))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        mask = torch.tril(torch.ones(t, t)).view(1, 1, t, t)
        att = F.softmax(att.masked_fill(mask == 0, float("-inf")), dim=-1)
        return self.fc((att @ v).transpose(1, 2).reshape(b, t, c))


class Multihead(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        h, _ = self.lstm(x)
        a, _ = self.attn(h, h, h)
        return self.fc(self.norm(h + a)[:, -1])


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True)
        self.up = nn.Linear(6, 8)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.gru = nn.GRU(8, 8, batch_first=True)

    def forward(self, x):
        return self.gru(self.encoder(self.up(x)))[0]


class Cross(nn.Module):
    """Two sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.GRU(6, 8, batch_first=True), nn.GRU(5, 8, batch_first=True)
        self.attn = nn.MultiheadAttention(8, 1, batch_first=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, source, target):
        memory, h = self.enc(source)
        y, _ = self.dec(target, h)
        context, _ = self.attn(y, memory, memory, need_weights=False)
        return self.fc(torch.cat((y, context), dim=2))


class CRNN(nn.Module):
    """Spectrograms (batch, 1, time, bands)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 4, (3, 3), padding=(1, 1)),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d((1, 2)),
        )
        self.gru = nn.GRU(4 * 5, 8, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = self.conv(x)
        x = x.permute(0, 2, 1, 3).contiguous()
        x = x.view(x.size(0), x.size(1), -1)
        x, _ = self.gru(x)
        return torch.sigmoid(self.fc(x))


class ConvGRU(nn.Module):
    """Features (batch, channels, time), fewer steps behind the convolutions."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(6, 8, 5, stride=2, padding=2)
        self.bn1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 8, 3, padding="same")
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.2)
        x = F.elu(self.conv2(x)).transpose(1, 2)
        out, h = self.gru(x)
        return self.fc(h.squeeze(0))


class TCN(nn.Module):
    class Chomp(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def forward(self, x):
            return x[:, :, : -self.size].contiguous()

    class Block(nn.Module):
        def __init__(self, inputs, outputs, dilation):
            super().__init__()
            pad = 2 * dilation
            self.conv1 = nn.utils.parametrizations.weight_norm(
                nn.Conv1d(inputs, outputs, 3, padding=pad, dilation=dilation)
            )
            self.net = nn.Sequential(self.conv1, TCN.Chomp(pad), nn.ReLU(), nn.Dropout(0.2))
            self.down = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

        def forward(self, x):
            res = x if self.down is None else self.down(x)
            return F.relu(self.net(x) + res)

    def __init__(self):
        super().__init__()
        self.tcn = nn.Sequential(self.Block(6, 8, 1), self.Block(8, 8, 2))
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(self.tcn(x).transpose(1, 2))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.LSTM(6, 8, batch_first=True)
        self.tags, self.value = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, x):
        h, _ = self.trunk(x)
        return {"tags": self.tags(h), "value": self.value(h[:, -1]).squeeze(-1)}


class Tupled(TwoHeads):
    def forward(self, x):
        h, (h_n, c_n) = self.trunk(x)
        return self.tags(h), c_n[0]


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(17, 6)
        self.lstm = nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True, dropout=0.5)
        self.fc = nn.Linear(16, 3)

    def forward(self, text, text_lengths):
        embedded = self.embedding(text)
        packed = pack_padded_sequence(embedded, text_lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed_output, (hidden, cell) = self.lstm(packed)
        return self.fc(torch.cat((hidden[-2], hidden[-1]), dim=1))


class Unpacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.second = nn.GRU(8, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x, lengths):
        x = pack_padded_sequence(x, lengths, batch_first=True)
        x, _ = self.rnn(x)
        x, _ = self.second(x)
        x, sizes = pad_packed_sequence(x, batch_first=True)
        return self.fc(x)


class LengthsTimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 8, bidirectional=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.rnn(packed)[0])
        outputs = outputs[:, :, :8] + outputs[:, :, 8:]
        return self.fc(outputs)


class MeanWithin(nn.Module):
    """A masked mean and the last step within the lengths."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.score = nn.Linear(8, 1)
        self.fc = nn.Linear(24, 3)

    def forward(self, x, lengths):
        h, _ = self.gru(x)
        mask = torch.arange(x.size(1))[None, :] < lengths[:, None]
        mean = (h * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1).float()
        last = h[torch.arange(h.size(0)), lengths - 1]
        weights = self.score(h).squeeze(-1).masked_fill(~mask, -1e9).softmax(1)
        pooled = torch.bmm(weights.unsqueeze(1), h).squeeze(1)
        return self.fc(torch.cat([mean, last, pooled], 1))


class GatheredLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)

    def forward(self, x, lengths):
        out, _ = self.lstm(x)
        index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, out.size(2))
        return out.gather(1, index).squeeze(1)


class MaskInput(nn.Module):
    """A mask of the steps beside them."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.score = nn.Linear(8, 1)

    def forward(self, x, mask):
        h, _ = self.lstm(x)
        s = self.score(h).squeeze(-1).masked_fill(mask == 0, -1e9)
        return (F.softmax(s, dim=-1).unsqueeze(-1) * h).sum(dim=1)


class PaddedAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(6, 8)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x, ignored):
        x = self.up(x)
        y, _ = self.attn(x, x, x, key_padding_mask=ignored)
        return y


class Streaming(nn.Module):
    """State in, state out."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x, state):
        y, state = self.lstm(x, state)
        return self.fc(y), state


class OneState(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x, hidden):
        out, hidden = self.gru(x, hidden)
        return self.fc(F.relu(out)), hidden


class Started(nn.Module):
    """A picture begins a caption."""

    def __init__(self):
        super().__init__()
        self.init_h, self.init_c = nn.Linear(10, 8), nn.Linear(10, 8)
        self.embed = nn.Embedding(17, 6)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.fc = nn.Linear(8, 17)

    def forward(self, captions, features):
        h = torch.tanh(self.init_h(features)).unsqueeze(0)
        c = torch.tanh(self.init_c(features)).unsqueeze(0)
        out, _ = self.lstm(self.embed(captions), (h, c))
        return self.fc(out)


class LearnedStart(nn.Module):
    def __init__(self):
        super().__init__()
        self.h0 = nn.Parameter(torch.randn(1, 1, 8))
        self.gru = nn.GRU(6, 8, batch_first=True)

    def forward(self, x):
        return self.gru(x, self.h0.expand(-1, x.size(0), -1).contiguous())[0]


class Repeated(nn.Module):
    """An autoencoder: the last state at each step."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(6, 4, batch_first=True)
        self.decoder = nn.LSTM(4, 8, batch_first=True)
        self.out = nn.Linear(8, 6)

    def forward(self, x):
        _, (h, _) = self.encoder(x)
        z = h[-1].unsqueeze(1).repeat(1, x.shape[1], 1)
        y, _ = self.decoder(z)
        return self.out(y)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 6, batch_first=True)
        self.lin = nn.Linear(6, 6)
        self.act = nn.PReLU()

    def forward(self, x):
        y = self.act(self.lin(self.rnn(x)[0]))
        y = self.act(self.lin(self.rnn(y)[0]))
        return y - x


class TimeDistributed(nn.Module):
    """Pictures (batch, time, channels, rows, columns), the batch and time in one axis for the convolutions."""

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.rnn = nn.LSTM(4, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        b, t, c, h, w = x.size()
        y = self.cnn(x.view(b * t, c, h, w)).view(b, t, -1)
        y, _ = self.rnn(y)
        return self.fc(y[:, -1])


class Speaker(nn.Module):
    """A number for the row, beside its sequence."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(10, 8, batch_first=True)

    def forward(self, x, speaker):
        s = speaker.unsqueeze(1).expand(-1, x.size(1), -1)
        return self.lstm(torch.cat([x, s], dim=-1))[0]


class Norms(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(6)
        self.rnn = nn.LSTM(6, 8, batch_first=True, proj_size=5)
        self.ln = nn.LayerNorm(5)
        self.gn = nn.GroupNorm(5, 5)
        self.rms = nn.RMSNorm(5)

    def forward(self, x):
        x = self.bn(x.permute(0, 2, 1)).permute(0, 2, 1)
        x = self.rms(self.ln(self.rnn(x)[0]))
        mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
        return F.normalize((x - mean) / (std + 1e-3), dim=-1)[:, -1]


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(48, 3)

    def forward(self, x):
        h, _ = self.gru(x)
        avg = F.adaptive_avg_pool1d(h.permute(0, 2, 1), 1).view(h.size(0), -1)
        mx, _ = torch.max(h, 1)
        return self.fc(torch.cat((mx, avg, h[:, -1, :]), dim=1))


class Arithmetic(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.scale, self.shift = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))
        self.register_buffer("mean", torch.randn(6))

    def forward(self, x):
        x = (x - self.mean) * 0.5
        h, _ = self.gru(x)
        h = h * self.scale + self.shift
        a, b = h[..., :4], h[..., 4:]
        y = torch.where(a > 0.1, a, 0.1 * a.abs()) + (1 - b).clamp(-1, 1) ** 2
        y = torch.stack([y, -y], dim=-1).flatten(2)
        y = torch.maximum(y, 2 / (3 + y.exp()))
        return 1.0 - torch.log1p(y.square()) - 3 + torch.minimum(y, y.sqrt().nan_to_num() if False else y)


class Sequence(nn.Sequential):
    pass


class GatedConv(nn.Module):
    """WaveNet's gates, causal by padding; the net is a stack of convolutions alone."""

    def __init__(self):
        super().__init__()
        self.front = nn.Conv1d(6, 8, 1)
        self.filters = nn.ModuleList([nn.Conv1d(8, 8, 2, dilation=2**i) for i in range(3)])
        self.gates = nn.ModuleList([nn.Conv1d(8, 8, 2, dilation=2**i) for i in range(3)])
        self.skips = nn.ModuleList([nn.Conv1d(8, 5, 1) for i in range(3)])

    def forward(self, x):
        x, skip = self.front(x), 0
        for i, (f, g, s) in enumerate(zip(self.filters, self.gates, self.skips)):
            padded = F.pad(x, (2**i, 0))
            z = torch.tanh(f(padded)) * torch.sigmoid(g(padded))
            skip = skip + s(z)
            x = x + z
        return F.relu(skip)


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.b(F.glu(torch.cat([self.a(x), x[:, :2].repeat(1, 4)], 1), dim=1))


class PackedData(nn.Module):
    """A layer on the numbers of a packed sequence: refused."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x, lengths):
        packed, _ = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        done = PackedSequence(
            self.fc(packed.data), packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return pad_packed_sequence(done, batch_first=True)[0]


class Translator(nn.Module):
    """An encoder, a decoder that begins with its states, the mean of the source at each step, attention."""

    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(17, 8), nn.Embedding(17, 8)
        self.encoder = nn.LSTM(8, 8, 2, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(16, 8)
        self.decoder = nn.GRU(24, 8, batch_first=True)
        self.attn = nn.Linear(8, 16)
        self.out = nn.Linear(24, 17)

    def forward(self, source, target):
        memory, (h, _) = self.encoder(self.source(source))
        start = torch.tanh(self.bridge(torch.cat([h[-2], h[-1]], 1))).unsqueeze(0)
        mean = memory.mean(1, keepdim=True).expand(-1, target.size(1), -1)
        y, _ = self.decoder(torch.cat([self.target(target), mean], 2), start)
        weights = F.softmax(torch.bmm(self.attn(y), memory.transpose(1, 2)), dim=2)
        return self.out(torch.cat([y, torch.bmm(weights, memory)], -1))


class TextCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(17, 8)
        self.convs = nn.ModuleList([nn.Conv1d(8, 4, k) for k in (2, 3, 4)])
        self.fc = nn.Linear(12, 2)

    def forward(self, x):
        x = self.emb(x).transpose(1, 2)
        x = [F.relu(conv(x)) for conv in self.convs]
        return self.fc(torch.cat([F.max_pool1d(one, one.size(2)).squeeze(2) for one in x], 1))


class RawAudio(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(1, 8, 8, stride=4), nn.BatchNorm1d(8), nn.ReLU())
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x):
        return self.lstm(self.front(x.unsqueeze(1)).transpose(1, 2))[0][:, -1].sum(-1)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(5, 8)
        self.net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.size(1))
        return self.net(self.up(source), self.down(target), tgt_mask=mask)


class SidesOfBoth(nn.Module):
    """The last step of one direction and the first of the other."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        y, _ = self.gru(torch.log10(x.abs() + 0.1))
        return self.fc(torch.cat((y[:, -1, :8], y[:, 0, 8:]), 1))


class Denoiser(nn.Module):
    """States that may be left out."""

    def __init__(self):
        super().__init__()
        self.front = nn.Linear(6, 8)
        self.gru1, self.gru2 = nn.GRU(8, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)
        self.mask = nn.Sequential(nn.Linear(16, 6), nn.Sigmoid())

    def forward(self, x, h1=None, h2=None):
        y = torch.clamp(self.front(x), min=0)
        a, h1 = self.gru1(y, h1)
        b, h2 = self.gru2(a + y, h2)
        return x * self.mask(torch.cat((a, b), -1)), h1, h2


# ---- loops over the steps --------------------------------------------------------------------------------


class Cells(nn.Module):
    """A net whose forward is a function of the module and its inputs."""

    def __init__(self, own):
        super().__init__()
        self.lstm, self.gru, self.rnn = (
            nn.LSTMCell(6, 8),
            nn.GRUCell(6, 8),
            nn.RNNCell(8, 8, nonlinearity="relu"),
        )
        self.w, self.u, self.out = nn.Linear(6, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 6)
        self.norm, self.enc, self.start = nn.LayerNorm(8), nn.Linear(4, 8), nn.Parameter(torch.ones(8))
        self.own = own

    def forward(self, *given):
        return self.own(self, *given)


def lstm_cell(self, x):
    h = c = torch.zeros(x.size(0), 8)
    outputs = []
    for t in range(x.size(1)):
        h, c = self.lstm(x[:, t, :], (h, c))
        outputs.append(self.out(h).unsqueeze(1))
    return torch.cat(outputs, 1), h, c


def stacked_cells(self, x):
    first, second = None, None
    y = x.new_zeros(x.size(0), x.size(1), 6)
    for t in range(x.size(1)):
        first = self.gru(x[:, t], first)
        second = F.dropout(self.rnn(first, second), 0.3, self.training)
        y[:, t] = self.out(second)
    return y


def cells_one_after_another(self, x):
    h, first, second = torch.zeros(x.size(1), 8), [], []
    for t in range(x.size(0)):
        h = self.gru(x[t], h)
        first.append(h)
    h = torch.zeros(x.size(1), 8)
    for t in range(x.size(0)):
        h = self.rnn(first[t], h)
        second.append(h)
    return torch.stack(second)


def own_formula(self, x):
    h, outputs = torch.zeros(x.size(0), 8), []
    for step in x.unbind(1):
        h = torch.tanh(self.w(step) + self.u(h))
        outputs.append(h)
    return self.out(torch.stack(outputs, dim=1)), h


def iterated(self, x):
    h = torch.zeros(x.size(0), 8)
    for step in x.transpose(0, 1):
        h = self.gru(step, h)
    return self.norm(h)


def learned_state(self, x):
    h, outputs = self.start.expand(x.size(0), -1), []
    for t in range(x.size(1)):
        h = self.gru(x[:, t : t + 1].squeeze(1), h)
        outputs.append(h)
    return torch.stack(outputs, 1)


def encoded_state(self, x, z):
    h, outputs = torch.tanh(self.enc(z)), []
    for t in range(x.size(1)):
        h = torch.sigmoid(self.w(x.select(1, t)) + self.u(h))
        outputs.append(h)
    return torch.stack(outputs, 1)


def fed_back(self, x):
    h = c = torch.zeros(x.size(0), 8)
    y, outputs = torch.zeros(x.size(0), 6), []
    for t in range(x.size(1)):
        h, c = self.lstm(x[:, t] + y, (h, c))
        y = self.out(h)
        outputs.append(y)
    return torch.stack(outputs, 1)


def decoder(self, x):
    h = c = torch.zeros(x.size(0), 8)
    for t in range(x.size(1)):
        h, c = self.lstm(x[:, t], (h, c))
    y, outputs = torch.zeros(x.size(0), 6), []
    for _ in range(x.size(1)):
        h, c = self.lstm(y, (h, c))
        y = self.out(h)
        outputs.append(y)
    return torch.stack(outputs, 1)


def clipped_state(self, x):
    h = c = torch.zeros(x.size(0), 8)
    outputs = []
    for t in range(x.size(1)):
        h, c = self.lstm(x[:, t], (h, c))
        c = c.clamp(-0.2, 0.2)
        outputs.append(h)
    return torch.stack(outputs, 1)


def zoned_out(self, x):
    """At the last step nothing reads c: an export leaves it out."""
    h = c = x.new_zeros(x.size(0), 8)
    outputs = []
    for t in range(x.size(1)):
        new, other = self.lstm(x[:, t], (h, c))
        h, c = 0.1 * h + 0.9 * new, 0.1 * c + 0.9 * other
        outputs.append(h)
    return torch.stack(outputs, 1)


def echo_state(self, x):
    """A line of two products, one of which is zero at the first step; a constant beside each step."""
    state, outputs = torch.zeros(x.size(0), 8), []
    for t in range(x.size(1)):
        x_t = torch.cat([torch.ones(x.size(0), 1), x[:, t, 1:]], 1)
        state = 0.7 * state + 0.3 * torch.tanh(x_t @ self.w.weight.t() + state @ self.u.weight.t())
        outputs.append(state)
    return torch.stack(outputs, 1)


def masked_state(self, x):
    h = torch.zeros(x.size(0), 8)
    for t in range(x.size(1)):
        mask = (x[:, t, :1] > 0).float()
        h = mask * self.gru(x[:, t], h) + (1 - mask) * h
    return h


def normed_state(self, x):
    h, outputs = torch.zeros(x.size(0), 8), []
    for t in range(x.size(1)):
        h = self.norm(self.rnn(self.w(x[:, t]), h))
        outputs.append(h)
    return torch.stack(outputs, 1)


def kept_state(self, x, h, c):
    outputs = []
    for t in range(x.size(1)):
        h, c = self.lstm(x[:, t], (h, c))
        outputs.append(h)
    return torch.stack(outputs, 1), h, c


def own_kept_state(self, x, h):
    outputs = []
    for t in range(x.size(1)):
        h = torch.tanh(self.w(x[:, t]) + self.u(h))
        outputs.append(self.out(h))
    return torch.stack(outputs, 1), h


def one_step(self, x, h):
    h = self.gru(torch.relu(x), h)
    return self.out(h), h


def one_step_alone(self, x, h):
    return self.gru(x, h)


def one_step_of_two(self, x, states):
    (h, c), g = states
    h, c = self.lstm(x, (h, c))
    g = self.rnn(h, g)
    return self.out(g), ((h, c), g)


class QuantisedLevels(nn.Module):
    def __init__(self, packs):
        super().__init__()
        self.lstm = nn.LSTM(5, 8, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(16, 6, batch_first=True)
        self.head = nn.Linear(6, 3)
        self.packs = packs

    def forward(self, x, lengths=None):
        if not self.packs:
            return self.head(self.gru(self.lstm(x)[0])[0])
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, h = self.gru(self.lstm(packed)[0])
        return self.head(h[-1])


class QuantisedCell(nn.Module):
    def __init__(self, kind, relu):
        super().__init__()
        self.cell = kind(5, 8, nonlinearity="relu") if relu else kind(5, 8)
        self.head = nn.Linear(8, 2)
        self.two = kind is nn.LSTMCell

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 8)
        state = (h, h) if self.two else h
        found = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            found.append(self.head(state[0] if self.two else state))
        return torch.stack(found, 1)


class DualPath(nn.Module):
    """Speech enhancement: a GRU along the frequencies of a frame, one over time for each frequency."""

    def __init__(self, channels=6):
        super().__init__()
        self.along = nn.GRU(channels, 5, batch_first=True, bidirectional=True)
        self.mix = nn.Linear(10, channels)
        self.over = nn.LSTM(channels, 4, batch_first=True)
        self.up = nn.ConvTranspose2d(4, 3, (1, 3), (1, 2), output_padding=(0, 1))

    def forward(self, x):
        batch, channels, steps, bands = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(batch * steps, bands, channels)
        h = torch.zeros(2, batch * steps, 5)
        y = self.mix(self.along(rows, h)[0]).view(batch, steps, bands, channels).permute(0, 3, 1, 2) + x
        y, _ = self.over(y.permute(0, 3, 2, 1).reshape(batch * bands, steps, channels))
        y = y.view(batch, bands, steps, 4).permute(0, 3, 2, 1)
        return self.up(y)


class BandsFirst(nn.Module):
    """Rows of a batch within those of the bands, and the last states of each."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 3, num_layers=2)

    def forward(self, x):
        steps, batch = x.shape[:2]
        y, h = self.rnn(x.view(steps, batch, 3, 2).transpose(1, 2).reshape(steps, 3 * batch, 2))
        last = h[-1].view(3, batch, 3).transpose(0, 1)
        return y.view(steps, 3, batch, 3).transpose(1, 2).flatten(2), last.flatten(1)


class PythonLengths(nn.Module):
    """Lengths that go through Python and NumPy."""

    def __init__(self, how):
        super().__init__()
        self.rnn = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.how = how

    def forward(self, x, lengths):
        pack, pad = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence
        if self.how == "list":
            packed = pack(x, lengths.tolist(), batch_first=True, enforce_sorted=False)
            return pad(self.rnn(packed)[0], batch_first=True, total_length=x.size(1))[0]
        numbers = lengths.numpy()
        order = np.argsort(-numbers, kind="stable")
        back = torch.from_numpy(np.argsort(order))
        packed = pack(x.index_select(0, torch.from_numpy(order)), numbers[order], batch_first=True)
        y = pad(self.rnn(packed)[0], batch_first=True)[0][back]
        return y.sum(1) / torch.from_numpy(numbers.copy()).float()[:, None]


class CaptionLoop(nn.Module):
    """A loop over the words, whose number is not that of the frames."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(6, 8, batch_first=True)
        self.cell = nn.LSTMCell(5 + 8, 8)
        self.gate = nn.Linear(8, 8)

    def forward(self, x, words):
        _, h = self.encoder(x)
        h = context = h[0]
        c, outputs = torch.tanh(h), []
        for t in range(words.size(1)):
            h, c = self.cell(torch.cat([words[:, t], torch.sigmoid(self.gate(h)) * context], 1), (h, c))
            outputs.append(h)
        return torch.stack(outputs, 1)


class Memory(nn.Module):
    """A neural Turing machine's addressing: a matrix as state, which begins with a parameter."""

    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.randn(5, 4))
        self.key, self.erase, self.add = nn.Linear(10, 4), nn.Linear(10, 4), nn.Linear(10, 4)

    def forward(self, x):
        memory, read, outputs = self.start.expand(x.size(0), -1, -1), x.new_zeros(x.size(0), 4), []
        for t in range(x.size(1)):
            both = torch.cat([x[:, t], read], 1)
            key = torch.tanh(self.key(both))
            weights = torch.softmax(4 * torch.cosine_similarity(memory, key[:, None], dim=-1), 1)
            erase, add = torch.sigmoid(self.erase(both)), torch.tanh(self.add(both))
            memory = memory * (1 - weights[..., None] * erase[:, None]) + weights[..., None] * add[:, None]
            read = (weights[:, None] @ memory).squeeze(1)
            outputs.append(read)
        return torch.stack(outputs, 1)


class LogSpace(nn.Module):
    """minGRU as it is published: a scan in logarithms; its matrices by `mm` and `addmm`."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(6, 16) / 3), nn.Parameter(torch.randn(16) / 3)

    def forward(self, x):
        batch, steps, _ = x.shape
        both = torch.addmm(self.bias, x.reshape(-1, 6), self.weight) + x.reshape(-1, 6).mm(self.weight)
        hidden, gate = both.view(batch, steps, 16).chunk(2, -1)
        softplus = nn.functional.softplus
        kept = torch.cumsum(-softplus(gate), 1)
        new = torch.where(hidden >= 0, (torch.relu(hidden) + 0.5).log(), -softplus(-hidden))
        y = torch.exp(kept + torch.logcumsumexp(new - softplus(-gate) - kept, 1))
        return torch.logaddexp(y, hidden)


class Window(nn.Module):
    """A forecast from as many steps as it was made for: cells in a loop, and a layer that skips steps."""

    def __init__(self, steps=12):
        super().__init__()
        self.steps, self.cell, self.skips = steps, nn.LSTMCell(6, 5), nn.GRU(5, 3)
        self.score = nn.Linear(steps * 6, 1)

    def forward(self, x):
        h = c = torch.zeros(len(x), 5)
        hs = []
        for t in range(self.steps):
            h, c = self.cell(x[:, t], (h, c))
            hs.append(h)
        y = torch.stack(hs, 1)
        skipped = y.view(len(x), 4, 3, 5).permute(1, 0, 2, 3).reshape(4, len(x) * 3, 5)
        return torch.cat([self.score(x.flatten(1)), self.skips(skipped)[1].view(len(x), 9)], 1)


class Coattention(nn.Module):
    """Two sequences that each attend to the other, as ESIM has them."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.GRU(6, 5, batch_first=True), nn.GRU(5, 5, batch_first=True)

    def forward(self, a, b):
        a, b = self.one(a)[0], self.other(b)[0]
        scores = a @ b.transpose(1, 2)
        for_a = torch.softmax(scores, -1) @ b
        for_b = torch.softmax(scores.permute(0, 2, 1), -1) @ a
        return torch.cat([a - for_a, a * for_a], -1), torch.cat([b - for_b, b * for_b], -1)


class ProjectedBackwards(nn.Module):
    """One direction of ELMo: an LSTM with a projection over the turned sequence."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(6, 7, batch_first=True, proj_size=4)

    def forward(self, x):
        y, (h, c) = self.rnn(x.flip(1))
        return y.flip(1), h[0], c[0]


class Filled(nn.Module):
    """Parts of frames that are filled, of a value and of a tensor of zeros."""

    def __init__(self):
        super().__init__()
        self.rnn, self.short = nn.GRU(6, 8, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        y = self.rnn(x)[0]
        y = torch.lerp(y, torch.expm1(y), 0.3).addcmul(y, y, value=0.5)
        y[..., 2:5] = self.short(x)
        y[:, :, -1] = x[:, :, 0]
        last = torch.zeros(len(x), 4, 3)
        for k in range(3):
            last[:, k, :] = y[:, -1, k : k + 3]
        return y, torch.cat([last.flatten(1), torch.addcdiv(y[:, 0], y[:, 1], 2 + y[:, 0] ** 2)], 1)


class Decoder(nn.Module):
    """A decoder whose steps attend to the encoder's, whose number is another; `scores` is a function of its."""

    def __init__(self, scores, layer=False):
        super().__init__()
        self.encoder = nn.GRU(6, 8, batch_first=True)
        self.cell = nn.GRU(5 + 8, 8, batch_first=True) if layer else nn.GRUCell(5 + 8, 8)
        self.q, self.k, self.v = nn.Linear(8, 7), nn.Linear(8, 7, bias=False), nn.Linear(7, 1)
        self.both, self.u, self.out = nn.Linear(16, 7), nn.Parameter(torch.randn(7)), nn.Linear(16, 4)
        self.scores, self.layer = scores, layer

    def forward(self, x, y):
        memory, h = self.encoder(x)
        h = h if self.layer else h[0]
        outputs = torch.zeros(x.size(0), y.size(1), 4)
        for t in range(y.size(1)):
            weights = F.softmax(self.scores(self, h[0] if self.layer else h, memory), dim=1)
            context = torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
            given = torch.cat([y[:, t], context], 1)
            if self.layer:
                step, h = self.cell(given.unsqueeze(1), h)
                step = step.squeeze(1)
            else:
                step = h = self.cell(given, h)
            outputs[:, t] = self.out(torch.cat([step, context], dim=-1))
        return outputs


SCORES = {
    "additive": lambda m, h, x: m.v(torch.tanh(m.q(h).unsqueeze(1) + m.k(x))).squeeze(-1),
    "side by side": lambda m, h, x: m.v(
        torch.tanh(m.both(torch.cat((h.unsqueeze(1).repeat(1, x.size(1), 1), x), dim=2)))
    ).squeeze(2),
    "by a parameter": lambda m, h, x: torch.bmm(
        m.u.repeat(x.size(0), 1).unsqueeze(1),
        torch.tanh(m.both(torch.cat((x, h[:, None].expand(-1, x.size(1), -1)), 2))).permute(0, 2, 1),
    ).squeeze(1),
    "by factors": lambda m, h, x: (torch.tanh(m.k(x) + m.q(h)[:, None] + m.u) * m.u).sum(-1) / 0.5,
    "dot": lambda m, h, x: torch.bmm(x, h.unsqueeze(2)).squeeze(2) / math.sqrt(8),
    "dot by sums": lambda m, h, x: torch.sum(h.unsqueeze(1) * x, dim=2),
    "general": lambda m, h, x: torch.einsum("bh,bsh->bs", m.q(h), m.k(x)),
}


class AdditiveWhole(nn.Module):
    """Additive attention of all steps to all, of a softmax over the one or the other axis."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.q, self.k, self.v = nn.Linear(8, 7), nn.Linear(8, 7), nn.Linear(7, 1)

    def forward(self, x):
        h, _ = self.rnn(x)
        scores = self.v(torch.tanh(self.q(h).unsqueeze(2) + self.k(h).unsqueeze(1))).squeeze(-1)
        weights = scores.softmax(-1)
        other = (self.v(torch.tanh(self.q(h).unsqueeze(1) + self.k(h).unsqueeze(2)))).softmax(2)
        return torch.bmm(weights, h) + (other * h.unsqueeze(1)).sum(2)


class Shifted(nn.Module):
    """Steps of zeros at the ends, windows and differences."""

    def __init__(self):
        super().__init__()
        self.pad, self.rnn = nn.ConstantPad1d((1, 2), 0.0), nn.GRU(42, 8, batch_first=True)

    def forward(self, x):
        before, behind = F.pad(x, (0, 0, 1, 0))[:, :-1], F.pad(x[:, 1:], (0, 0, 0, 1))
        change = F.pad(x.diff(dim=1), (0, 0, 0, 1))
        wide = F.pad(x, (0, 0, 1, 1))
        windows = wide.unfold(1, 3, 1).flatten(2)
        y = torch.cat([x, before, behind, change, windows], -1)
        return self.rnn(self.pad(y.transpose(1, 2)).transpose(1, 2))[0]


class Pyramid(nn.Module):
    """Two steps side by side, and the largest of two; an odd last step is left out."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(6, 4, batch_first=True, bidirectional=True)
        self.second = nn.GRU(24, 5, batch_first=True)

    def forward(self, x):
        y, _ = self.first(x)
        y = y[:, :-1] if y.size(1) % 2 else y
        batch, steps, size = y.shape
        pairs, largest = y.reshape(batch, steps // 2, 2 * size), y.reshape(batch, steps // 2, 2, size).amax(2)
        return self.second(torch.cat([pairs, largest], dim=-1))[0]


class Subsampled(nn.Module):
    """Convolutions with strides before packed steps, as in speech recognition."""

    def __init__(self, levels=1, masks=False):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(6 if i == 0 else 8, 8, 5, 2, 2) for i in range(levels)])
        self.rnn, self.out = nn.GRU(8, 8, batch_first=True, bidirectional=True), nn.Linear(16, 3)
        self.masks = masks

    def forward(self, x, lengths):
        y = x.transpose(1, 2)
        for conv in self.convs:
            y = F.relu(conv(y))
            lengths = (lengths + 2 * 2 - 5) // 2 + 1
            if self.masks:
                y = y.masked_fill((torch.arange(y.size(2)) >= lengths[:, None])[:, None], 0)
        packed = pack_padded_sequence(y.transpose(1, 2), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(y)


class StepDecoder(nn.Module):
    """One step of PyTorch's tutorials' decoder: a word, a state and what the encoder wrote."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(17, 8), nn.GRU(16, 8, batch_first=True)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.out = nn.Linear(8, 17)

    def forward(self, word, hidden, memory):
        query = hidden.permute(1, 0, 2)
        scores = self.v(torch.tanh(self.q(query) + self.k(memory))).squeeze(2).unsqueeze(1)
        weights = F.softmax(scores, dim=-1)
        given = torch.cat((self.embedding(word), torch.bmm(weights, memory)), dim=2)
        output, hidden = self.gru(given, hidden)
        return self.out(output), hidden, weights


class StepTimeFirst(nn.Module):
    """The same, time first, with products."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru, self.out = nn.Embedding(17, 8), nn.GRU(8, 8), nn.Linear(16, 17)

    def forward(self, word, hidden, memory):
        output, hidden = self.gru(self.embedding(word), hidden)
        weights = F.softmax(torch.sum(output * memory, dim=2).t(), dim=1).unsqueeze(1)
        context = weights.bmm(memory.transpose(0, 1)).squeeze(1)
        return F.log_softmax(self.out(torch.cat((output.squeeze(0), context), 1)), dim=1), hidden


class StepOfCells(nn.Module):
    """A step of an LSTMCell, whose state asks."""

    def __init__(self):
        super().__init__()
        self.cell, self.q, self.out = nn.LSTMCell(6, 8), nn.Linear(8, 6), nn.Linear(8, 2)

    def forward(self, memory, h, c):
        weights = torch.softmax((memory * self.q(h)[:, None]).sum(-1), 1)
        h, c = self.cell(torch.einsum("bt,btf->bf", weights, memory), (h, c))
        return self.out(h), h, c


class AtOddLengths(nn.Module):
    """Another function where the number of steps is odd."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(12, 8, batch_first=True)

    def forward(self, x):
        x = F.pad(x, (0, 0, 0, 1)) if x.size(1) % 2 else x
        return self.rnn(x.reshape(x.size(0), x.size(1) // 2, 12))[0]


class Bands(nn.Module):
    """A gate for each channel, of the power of all bands at the steps so far."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 4, batch_first=True)

    def forward(self, x):
        gate = torch.sigmoid(self.rnn(x.pow(2).mean(-1).transpose(1, 2))[0])
        return x * gate.transpose(1, 2).unsqueeze(-1)


class InPlace(nn.Module):
    """Axes that change in place, and a softmax over the axis that PyTorch guesses."""

    def __init__(self):
        super().__init__()
        self.first, self.conv = nn.Linear(6, 8), nn.Conv1d(8, 5, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.first(x))
        y.transpose_(1, 2)
        return F.softmax(self.conv(y).mean(2))


class Predictor(nn.Module):
    """PyTorch's example of a sequence of numbers: one at a step, and no axis of frames."""

    def __init__(self):
        super().__init__()
        self.cells, self.out = nn.ModuleList([nn.LSTMCell(1, 8), nn.LSTMCell(8, 8)]), nn.Linear(8, 1)

    def forward(self, x):
        states = [(torch.zeros(len(x), 8), torch.zeros(len(x), 8)) for _ in self.cells]
        found = []
        for y in x.split(1, dim=1):
            for i, cell in enumerate(self.cells):
                states[i] = cell(y, states[i])
                y = states[i][0]
            found.append(self.out(y))
        return torch.cat(found, 1)


class StepAsserted(nn.Module):
    """A step of a decoder whose state has two axes, and that asserts what GRUs promise."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru, self.q = nn.Embedding(17, 8), nn.GRU(16, 8), nn.Linear(8, 8)

    def forward(self, word, hidden, memory):
        scores = torch.bmm(memory.permute(1, 0, 2), self.q(hidden).unsqueeze(2)).squeeze(2)
        context = torch.bmm(torch.softmax(scores, 1).unsqueeze(1), memory.permute(1, 0, 2))
        given = torch.cat((self.embedding(word.unsqueeze(0)), context.permute(1, 0, 2)), dim=2)
        output, last = self.gru(given, hidden.unsqueeze(0))
        assert (output == last).all()
        return output.squeeze(0), last.squeeze(0)


class StepOfLevels(nn.Module):
    """A step of a language model, with the states of two levels."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.out = nn.Embedding(17, 6), nn.LSTM(6, 8, 2), nn.Linear(8, 3)

    def forward(self, word, h, c):
        y, (h, c) = self.lstm(self.embedding(word.unsqueeze(0)), (h, c))
        return self.out(y.squeeze(0)), h, c


class OfSoManyRows(nn.Module):
    """States for a batch of one size; no axis of the batch for ``rows=0``."""

    def __init__(self, rows):
        super().__init__()
        self.rnn, self.rows = nn.GRU(6, 8), rows

    def forward(self, x):
        y, h = self.rnn(x if self.rows else x.unsqueeze(1), torch.zeros(1, self.rows or 1, 8))
        return (y, h[0]) if self.rows else (y.squeeze(1), h.squeeze())


class InputAttention(nn.Module):
    """Weights of the inputs at each of eight steps, of all that they are and of the state, as DA-RNN has them."""

    def __init__(self):
        super().__init__()
        self.rnn, self.weigh = nn.GRU(6, 5), nn.Linear(5 + 8, 1)

    def forward(self, x):
        h, found = torch.zeros(1, len(x), 5), torch.zeros(len(x), 8, 5)
        for t in range(8):
            given = torch.cat((h.repeat(6, 1, 1).permute(1, 0, 2), x.permute(0, 2, 1)), dim=2)
            weights = F.softmax(self.weigh(given.view(-1, 13)).view(-1, 6), dim=1)
            _, h = self.rnn((weights * x[:, t, :]).unsqueeze(0), h)
            found[:, t, :] = h
        return found
