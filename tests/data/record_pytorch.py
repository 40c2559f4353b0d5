"""Record small files of PyTorch, and the tensors in them, for where PyTorch is not installed.

    python tests/data/record_pytorch.py

writes pytorch/<name>.pt beside this file and the expected tensors of all to pytorch/tensors.npz, named
``<name>/<tensor>``. Recorded with PyTorch 2.13.
"""

from __future__ import annotations

import argparse
import enum
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

DATA = Path(__file__).parent / "pytorch"


class Mode(enum.Enum):
    FAST = 1


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0])


def checkpoint(net: nn.Module) -> dict[str, object]:
    """Objects of classes that nobody has stand beside the weights."""
    optimizer = torch.optim.Adam(net.parameters())
    return {
        "state_dict": net.state_dict(),
        "optimizer": optimizer,
        "hyper_parameters": argparse.Namespace(mode=Mode.FAST, rate=np.float64(0.1)),
        "loss": nn.CrossEntropyLoss(),
        "epoch": 3,
    }


def reparametrized() -> nn.Module:
    net = nn.ModuleDict(
        {"rnn": nn.LSTM(2, 3), "norm": nn.Linear(3, 3), "square": nn.Linear(3, 3), "cut": nn.Linear(3, 2)}
    )
    nn.utils.weight_norm(net["rnn"], "weight_hh_l0")
    parametrizations.spectral_norm(net["norm"])
    parametrizations.orthogonal(net["square"])
    prune.l1_unstructured(net["cut"], "weight", amount=0.5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.01 * torch.randn(parameter.shape)
    net.eval()
    net["rnn"](torch.ones(1, 1, 2))  # hooks compute the weights
    net["cut"](torch.ones(1, 3))
    return net


def main() -> None:
    """Write all files."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    DATA.mkdir(exist_ok=True)
    net, folded = Net().eval(), reparametrized()
    small = torch.ao.quantization.quantize_dynamic(net, {nn.GRU, nn.Linear}, dtype=torch.qint8)
    plain = net.state_dict()
    torch.save(checkpoint(net), DATA / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(checkpoint(net), DATA / "checkpoint.pt")
    torch.save(net, DATA / "module.pt")
    torch.jit.script(net).save(str(DATA / "script.pt"))
    torch.save(folded.state_dict(), DATA / "folded.pt")
    torch.save(small.state_dict(), DATA / "packed.pt")
    weights = {name: folded[name].weight for name in ("norm", "square", "cut")}
    wanted = {f"{name}.weight": weight for name, weight in weights.items()}
    wanted |= {f"{name}.bias": folded[name].bias for name in weights}
    wanted |= {f"rnn.{name}": getattr(folded["rnn"], name) for name in nn.LSTM(2, 3).state_dict()}
    numbers = {**plain, "head.weight": small.head.weight().dequantize()}
    tables = dict.fromkeys(("legacy", "checkpoint", "module", "script"), plain)
    tables |= {
        "folded": wanted,
        "packed": {n: t for n, t in numbers.items() if not n.startswith("rnn.weight")},
    }
    np.savez_compressed(
        DATA / "tensors.npz",
        **{
            f"{file}/{name}": t.detach().numpy()
            for file, table in tables.items()
            for name, t in table.items()
        },
    )


if __name__ == "__main__":
    main()
