"""Modules of PyTorch with loops of their own, for `torch.jit.script`, which reads the types of this file."""

from typing import List, Tuple  # noqa: UP035

import torch
from torch import Tensor, nn


class Cell(nn.Module):
    """A GRU written out, whose states are gathered in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(4, 18), nn.Linear(6, 18)

    def forward(self, x: Tensor, h: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006
        found: List[Tensor] = []  # noqa: UP006
        for one in x.unbind(0):
            ar, az, an = self.ih(one).chunk(3, 1)
            br, bz, bn = self.hh(h).chunk(3, 1)
            r, z = torch.sigmoid(ar + br), torch.sigmoid(az + bz)
            h = (1 - z) * torch.tanh(an + r * bn) + z * h
            found.append(h)
        return torch.stack(found, 0), h


class Last(nn.Module):
    """An LSTM written out, whose last state is read."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.out = nn.Linear(10, 24), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 6)
        c = torch.zeros(x.size(0), 6)
        for t in range(x.size(1)):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        out: Tensor = self.out(h)
        return out
