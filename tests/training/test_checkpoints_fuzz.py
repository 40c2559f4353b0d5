"""Checkpoints with a right checksum and wrong contents: refused whole, or resumed to the end."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import callbacks, checkpoints, trainer
from tinyrnn.weights import safetensors

MUTANTS = 700  # of each run

RNG = np.random.default_rng(3)
LISTED = [RNG.standard_normal((n, 2)).astype(np.float32) for n in (3, 5, 4, 6, 5)]
ALIKE = RNG.standard_normal((5, 6, 2)).astype(np.float32)
LAST = np.array([0, 1, 2, 1, 0])
EACH = RNG.integers(0, 3, (5, 6))


class Crash(Exception):
    pass


class Counter(callbacks.Callback):
    """A user's: takes anything, and breaks in its own way where it cannot."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {"seen": 0, "last": np.zeros(2, np.float32), 3: (1, 2)}

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.state["seen"] += 1

    def state_dict(self) -> dict[str, Any]:
        return {"state": dict(self.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        inner = state["state"]
        assert (
            set(inner) == {"seen", "last", 3} and inner["last"].shape == (2,) and type(inner["seen"]) is int
        )
        self.state = inner


class After(callbacks.Callback):
    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


class Setup:
    """A small run of either kind."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        tr.manual_seed(5)
        first = tr.BatchNorm1d(2) if kind == "frames" else tr.LSTM(2, 2)
        self.net: Any = tr.Sequential(first, tr.Dropout(0.2), tr.Linear(2, 3))
        self.stopping = callbacks.EarlyStopping("loss", 50, restore_best=True)
        schedules = tr.optim.schedules
        rate: list[Any]
        if kind == "frames":
            self.optimizer: Any = tr.optim.RMSprop(self.net, lr=0.01, momentum=0.5)
            rate = [schedules.CosineAnnealingLR(self.optimizer, 4)]
        elif kind == "listed":
            self.optimizer = tr.optim.Adam(self.net, lr=0.01, amsgrad=True)
            rate = [schedules.StepLR(self.optimizer, step_size=1, gamma=0.5)]
        else:
            self.optimizer = tr.optim.SGD(self.net, lr=0.01, momentum=0.5)
            rate = [
                callbacks.LearningRateScheduler(lambda n: 0.01 / (1 + n), unit="batch"),
                callbacks.LearningRateScheduler(schedules.ReduceLROnPlateau(self.optimizer), monitor="loss"),
                schedules.OneCycleLR(self.optimizer, 0.02, 2**28),
            ]
        best = callbacks.ModelCheckpoint(folder / "best.safetensors", "loss", save_best_only=True)
        self.callbacks = [*rate, self.stopping, best, Counter()]

    def fit(self, more: Any = (), **options: Any) -> tr.History:
        given: dict[str, Any] = {"x": LISTED, "y": LAST}
        if self.kind == "frames":
            given["x"] = ALIKE[:, 0]
        if self.kind == "chunks":
            given = {"x": ALIKE, "y": EACH, "bptt": 2, "shuffle": False}
        history: tr.History = self.net.fit(
            **given,
            epochs=3,
            batch_size=3 if self.kind == "frames" else 2,
            loss="cross_entropy",
            optimizer=self.optimizer,
            callbacks=[*more, *self.callbacks],
            nonfinite="skip",
            verbose=0,
            **options,
        )
        return history

    def everything(self) -> Any:
        tensors: dict[str, Any] = {}
        states = [
            self.optimizer.state_dict(),
            *(one.state_dict() for one in callbacks.in_order(self.callbacks)),
        ]
        rest = checkpoints.pack(states, "", tensors)
        tensors |= {f"net.{name}": array for name, array in self.net.state_dict().items()}
        kept = {name: value for name, value in vars(self.net).items() if name in checkpoints._DROPOUT}
        return json.dumps(rest), kept, {name: array.tobytes() for name, array in tensors.items()}


def written(kind: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A checkpoint in the middle of the second epoch: its description and its tensors."""
    path = folder / "run.safetensors"
    setup = Setup(kind, folder)
    saved = []
    if kind == "chunks":  # between two chunks of a batch
        step = trainer.Trainer.step

        def counted(trainer: Any, *arguments: Any, **named: Any) -> Any:
            saved.append(None)
            if len(saved) == 14:
                signal.raise_signal(signal.SIGINT)
            return step(trainer, *arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer.Trainer, "step", counted)
            history = setup.fit([callbacks.Checkpoint(path)])
        assert history.interrupted
    else:
        with pytest.raises(Crash):
            setup.fit([callbacks.Checkpoint(path, unit="batch"), After(4 if kind == "frames" else 5)])
    with safetensors.Reader(path) as reader:
        contents = safetensors.read(reader, None)
        tensors = {tensor.name: tensor.raw() for tensor in contents.tensors}
    description = json.loads(contents.metadata["tinyrnn_checkpoint"])
    assert (description["position"]["step"] > 0) == (kind == "chunks") and description["position"][
        "epoch"
    ] == 1
    return description, tensors


# ---- mutations -----------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False,
    0, 1, -1, 2, 3, 7, 2**31, 2**53, 2**63, 2**64, 2**127, -(2**63), 0.5, 1e-300, -0.0, 1e30,
    math.inf, -math.inf, math.nan, "", "x", "nan", "0", [], [0], [[]], {}, {"x": 1}, {"!array": "no"},
    {"!tuple": []}, {"!tuple": [1, 2]}, {"!dict": []}, {"!dict": [[0, 1]]}, {"!array": ["x"]}, 10**400,
]  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node but the root."""
    items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = []
    for key, item in items:
        found += [(*path, key), *places(item, (*path, key))]
    return found


def mutate(description: Any, tensors: dict[str, Any], dice: random.Random) -> tuple[Any, dict[str, Any]]:
    """Another description and other tensors: one thing changed, sometimes two."""
    description, tensors = copy.deepcopy(description), dict(tensors)
    for _ in range(dice.choice((1, 1, 1, 2))):
        if dice.random() < 0.2:
            mutate_tensor(tensors, dice)
            continue
        nodes = [path for path in places(description) if path[0] not in ("net", "trained", "settings")]
        if dice.random() < 0.1:
            nodes = places(description)
        path = dice.choice(nodes)
        parent = description
        for key in path[:-1]:
            parent = parent[key]
        key, value = path[-1], parent[path[-1]]
        what = dice.choice(
            ("value", "value", "value", "nudge", "nudge", "delete", "double", "swap", "rename")
        )
        if what == "nudge" and isinstance(value, (int, float)) and not isinstance(value, bool):
            parent[key] = dice.choice((value + 1, value - 1, -value, value * 2, value + 0.5, value * 1000))
        elif what == "delete":
            del parent[key]
        elif what == "double" and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(value))
        elif what == "swap":
            other = description
            place = dice.choice(nodes)
            try:
                for step in place:
                    other = other[step]
            except (KeyError, IndexError, TypeError):
                continue
            parent[key] = copy.deepcopy(other)
        elif what == "rename" and isinstance(parent, dict):
            parent[dice.choice(("x", "!array", str(key) + "_", "0"))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(dice.choice(VALUES))
    return description, tensors


def mutate_tensor(tensors: dict[str, Any], dice: random.Random) -> None:
    if not tensors:
        return
    name = dice.choice(sorted(tensors))
    array = tensors[name]
    changes: list[Callable[[], Any]] = [
        lambda: array.reshape(-1)[:-1].copy(),
        lambda: np.append(array.reshape(-1), array.reshape(-1)[:1]),
        lambda: array.reshape(*array.shape, 1),
        lambda: array.T.copy(),
        lambda: np.zeros((0,), array.dtype),
        lambda: np.zeros((), np.float32),
        lambda: array.astype(np.float64),
        lambda: array.astype(np.int64),
        lambda: array.astype(np.int8),
        lambda: array.astype(np.float16),
        lambda: np.full_like(array, -1),
        lambda: tensors[dice.choice(sorted(tensors))],
        lambda: None,
    ]
    with np.errstate(all="ignore"):
        changed = dice.choice(changes)()
    if changed is None:
        del tensors[name]
    else:
        tensors[name] = changed


def write(path: Path, description: Any, tensors: dict[str, Any]) -> None:
    """Write a file like a checkpoint, with the checksum of its present contents."""
    text = json.dumps(description)
    crc = f"{checkpoints._crc(text, tensors):08x}"
    metadata = {"format": "np", "tinyrnn_checkpoint": text, "tinyrnn_crc32": crc}
    safetensors.save_safetensors(path, tensors, metadata)


# ---- the test ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["listed", "frames", "chunks"])
def test_refused_whole_or_resumed_to_the_end(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nothing here is to outlive a power cut
    description, tensors = written(kind, tmp_path)
    path = tmp_path / "mutant.safetensors"
    write(path, description, tensors)
    Setup(kind, tmp_path).fit(resume=path)
    dice = random.Random(11)
    setup = Setup(kind, tmp_path)
    setup.fit()
    taken = 0
    for turn in range(MUTANTS):
        changed, arrays = mutate(description, tensors, dice)
        try:
            write(path, changed, arrays)
        except ValueError:  # an integer that has no place in JSON
            continue
        before = setup.everything()
        try:
            history = setup.fit(resume=path)
        except ValueError as error:
            if not isinstance(error, tr.LoadError):
                assert "is a checkpoint of another run" in str(error), (turn, repr(error))
            assert path.name in str(error) and len(str(error)) < 3000, (turn, repr(error))
            assert setup.everything() == before, (turn, repr(error))
        else:
            taken += 1
            assert history.epochs in (2, 3), turn  # or it was to stop after the second
    assert 0 < taken < MUTANTS // 2
