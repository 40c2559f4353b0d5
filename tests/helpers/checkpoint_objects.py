"""Objects that stand beside the weights in checkpoints, and modules that are saved whole. Needs torch."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import ipaddress
import pathlib
import random
import re
import types
import uuid

import numpy as np
import torch
from torch import nn


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Settings:
    rate: float = 0.1
    more: dict = dataclasses.field(default_factory=lambda: {"x": [1, 2]})


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("a",)
    a: int


Point = collections.namedtuple("Point", "x y")


class Version(str):
    """A text of a class of its own, like torch.__version__."""


class AttrDict(collections.OrderedDict):
    """A dict of a class of its own, like the hyperparameters of Lightning."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.note = "x"


class PlainDict(dict):
    pass


class Names(list):
    pass


class Reduced:
    def __reduce__(self):
        return print, ("this must never be printed",)


class WithKeywords:
    def __new__(cls, *, a):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"a": 1}

    @classmethod
    def made(cls):
        return cls(a=1)


def function(x):
    return x


class Speech(nn.Module):
    """Modules within it, tied weights, buffers of both kinds, a bias left out, a list, a plain tensor."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4, bidirectional=True)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 2, bias=False), nn.ReLU())])
        self.table = nn.ModuleDict({"norm": nn.BatchNorm1d(8)})
        self.extra = nn.ParameterList([nn.Parameter(torch.ones(2))])
        self.tied = self.layers[0]
        self.register_buffer("window", torch.arange(4.0))
        self.register_buffer("scratch", torch.zeros(9), persistent=False)
        self.register_buffer("none", None)
        self.plain = torch.zeros(5)
        self.settings = Settings()

    def forward(self, x):
        return self.layers[1](self.tied(self.rnn(x)[0]))


def beside() -> dict[str, object]:
    """One of each kind by a name."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    generator = random.Random(1)
    return {
        "namespace": argparse.Namespace(lr=0.1, name="x", inner=argparse.Namespace(a=[1])),
        "enum": Colour.RED,
        "int enum": Level.LOW,
        "flag": Flags.A | Flags.B,
        "dataclass": Settings(),
        "slots": Slotted(3),
        "named tuple": Point(1, 2),
        "version": Version("2.0"),
        "torch version": torch.__version__,
        "attr dict": AttrDict(a=1, b={"c": 2}),
        "plain dict": PlainDict(a=1),
        "list": Names([1, 2]),
        "reduced": Reduced(),
        "keywords": WithKeywords(a=1),
        "function": function,
        "class": Settings,
        "class method": WithKeywords.made,
        "built-in": print,
        "partial": functools.partial(function, 1),
        "numpy float": np.float64(1.5),
        "numpy int": np.int64(3),
        "numpy bool": np.bool_(True),
        "numpy array": np.arange(6.0).reshape(2, 3),
        "numpy strings": np.array(["a", "bc"]),
        "numpy objects": np.array([None, 1], dtype=object),
        "numpy dtype": np.dtype("f4"),
        "numpy state": np.random.RandomState(1),
        "numpy generator": np.random.default_rng(1),
        "numpy get_state": np.random.RandomState(1).get_state(),
        "random": generator,
        "random state": generator.getstate(),
        "set": {1, "a"},
        "frozen set": frozenset({1}),
        "complex": 1 + 2j,
        "bytes": b"abc",
        "byte array": bytearray(b"abc"),
        "huge": 1 << 3000,
        "deque": collections.deque([1], 5),
        "counter": collections.Counter("abc"),
        "default dict": collections.defaultdict(list, a=[1]),
        "chain map": collections.ChainMap({"a": 1}),
        "user dict": collections.UserDict(a=1),
        "range": range(5),
        "slice": slice(1, 2),
        "ellipsis": ...,
        "path": pathlib.PurePosixPath("/a/b"),
        "date": datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
        "delta": datetime.timedelta(1),
        "decimal": decimal.Decimal("1.5"),
        "fraction": fractions.Fraction(1, 3),
        "uuid": uuid.UUID(int=1),
        "address": ipaddress.ip_address("1.2.3.4"),
        "pattern": re.compile("a+"),
        "simple namespace": types.SimpleNamespace(a=1),
        "exception": ValueError("x"),
        "buffer": io.BytesIO(b"abc"),
        "optimizer": optimizer,
        "optimizer state": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3),
        "loss": nn.CrossEntropyLoss(),
        "activation": nn.ReLU(),
        "module class": nn.LSTM,
        "device": torch.device("cpu"),
        "cuda": torch.device("cuda", 0),
        "dtype": torch.float16,
        "size": torch.Size([2, 3]),
        "layout": torch.strided,
        "rng state": torch.get_rng_state(),
        "tensors in a list": [torch.ones(2), {"a": torch.ones(3)}],
        "tensors in a tuple": (torch.ones(2),),
        "none": None,
    }
