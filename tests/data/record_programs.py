"""Record small programs of torch.export, and what they compute, for where PyTorch is not installed.

    python tests/data/record_programs.py

writes pytorch/programs.npz beside this file: of each program the file, ``<name>/file``, an input,
``<name>/x``, and the outputs, ``<name>/<output>``. Recorded with PyTorch 2.13.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

DATA = Path(__file__).parent / "pytorch"


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(3, 4)
        self.rnn = nn.GRU(4, 5, 2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y, h = self.rnn(torch.relu(self.front(x)) + x[..., :1])
        return {"all": torch.tanh(self.head(y)), "end": self.head(y[:, -1]), "h": h[-1]}


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.steps, self.whole = nn.Linear(8, 2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y, (h, _) = self.rnn(x)
        both = torch.cat([h[-2], h[-1]], 1)
        return {"steps": self.steps(self.norm(y)), "whole": torch.softmax(self.whole(both), -1)}


class Free(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2)
        y = y + self.attention(y, y, y, need_weights=False)[0]
        return {"y": y, "mean": y.mean(1), "most": y.amax(1)}


def smaller(file: bytes) -> bytes:
    """Without the example, and with the paths of the machine that recorded it cut short."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("models/model.json"):
                data = data.replace(str(Path(torch.__file__).parents[1]).encode(), b"site-packages")
                data = data.replace(str(Path(__file__).parent).encode(), b"data")
                data = json.dumps(json.loads(data), separators=(",", ":")).encode()
            if "sample_inputs" not in name and "serialization_id" not in name:
                new.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def main() -> None:
    warnings.simplefilter("ignore")
    auto = torch.export.Dim.AUTO
    arrays = {}
    for kind in (Chain, Heads, Free):
        torch.manual_seed(len(arrays))
        module, name = kind().eval(), kind.__name__.lower()
        if kind is Free:
            module.norm.running_mean += torch.rand(4)
        shapes = ({0: auto, 1: auto},) if kind is Free else ({0: auto},)
        program = torch.export.export(module, (torch.zeros(2, 6, 3),), dynamic_shapes=shapes)
        file = io.BytesIO()
        torch.export.save(program, file)
        arrays[f"{name}/file"] = np.frombuffer(smaller(file.getvalue()), np.uint8)
        x = torch.randn(3, 6, 3)
        arrays[f"{name}/x"] = x.numpy()
        with torch.no_grad():
            arrays |= {f"{name}/{key}": one.numpy() for key, one in module(x).items()}
    np.savez_compressed(DATA / "programs.npz", **arrays)


if __name__ == "__main__":
    main()
