"""The task of every contender in training: the same net, the same weights, the same batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from work import Array, Call, Work

# From the net's weights to what trains it on one batch and returns the loss before the update.
Teacher = Callable[["Lesson"], Call]

RATE = 1e-3


@dataclass
class Lesson:
    """Steps of Adam on the cross-entropy of an LSTM or a GRU with a Linear layer on every step of it.

    `steps` steps of `batch` sequences, which all begin at zero; what they are to tell is drawn at random.
    `turn` is how many steps of Adam a contender makes before the next one has its turn.
    """

    kind: str
    inputs: int
    hidden: int
    outputs: int
    steps: int
    batch: int = 32
    layers: int = 1
    one_hot: bool = False
    turn: int = 4
    x: Array = field(init=False, repr=False)  # (steps, batch, inputs)
    y: Any = field(init=False, repr=False)  # (steps, batch), int64: PyTorch takes no other
    weights: dict[str, Array] = field(init=False, repr=False)  # PyTorch's names

    def __post_init__(self) -> None:
        drawn = Work(self.kind, self.inputs, self.hidden, layers=self.layers).weights
        self.weights = {f"rnn.{name}": array for name, array in drawn.items()}
        generator, bound = np.random.default_rng(1), self.hidden**-0.5
        for name, shape in (("weight", (self.outputs, self.hidden)), ("bias", (self.outputs,))):
            self.weights[f"head.{name}"] = generator.uniform(-bound, bound, shape).astype(np.float32)
        self.x = np.empty((self.steps, self.batch, self.inputs), np.float32)
        self.y = np.empty((self.steps, self.batch), np.int64)
        self.again(0)

    def again(self, seed: int) -> None:
        """Another batch, in the very arrays that the contenders read, so that nobody learns one by heart."""
        generator = np.random.default_rng(seed)
        self.y[:] = generator.integers(0, self.outputs, self.y.shape)
        if self.one_hot:
            self.x[:] = np.eye(self.inputs, dtype=np.float32)[
                generator.integers(0, self.inputs, self.y.shape)
            ]
        else:
            self.x[:] = generator.standard_normal(self.x.shape, np.float32)

    @property
    def multiply_adds(self) -> int:
        """Count the multiply-adds of a step of Adam.

        The recurrent layers' products forwards count, and as many each for the gradients of their inputs and
        of their weights. The Linear layer, 1 to 4 % of the total, is left out.
        """
        forward = sum(a.size for name, a in self.weights.items() if name.startswith("rnn.weight"))
        return 3 * forward * self.steps * self.batch

    def __str__(self) -> str:
        layers = f"{self.layers} x " if self.layers > 1 else ""
        return f"{layers}{self.kind} ({self.inputs}, {self.hidden}), {self.steps} steps of {self.batch}"


LESSONS = {
    "lstm": Lesson("LSTM", 64, 128, 10, 50),
    "gru": Lesson("GRU", 64, 128, 10, 50),
    "lstm2": Lesson("LSTM", 65, 128, 65, 64, layers=2, one_hot=True),
    # A device that goes on learning runs nothing else: long turns, so that its caches are its own.
    "online": Lesson("LSTM", 16, 32, 4, 32, batch=1, turn=50),
}


# ---- contenders ---------------------------------------------------------------------------------


def tinyrnn(lesson: Lesson, threads: int = 1) -> Call:
    """`trainer.step`, which lays its memory out beforehand."""
    return trainer_of(lesson, threads)[1]


def trainer_of(lesson: Lesson, threads: int = 1) -> tuple[Any, Call]:
    import tinyrnn as tr

    recurrent = getattr(tr, lesson.kind)(lesson.inputs, lesson.hidden, lesson.layers)
    net = tr.Sequential({"rnn": recurrent, "head": tr.Linear(lesson.hidden, lesson.outputs)})
    net.load_state_dict(lesson.weights)
    adam = tr.optim.Adam(net, lr=RATE)
    trainer = net.trainer(adam, tr.CrossEntropyLoss(), lesson.batch, lesson.steps, threads=threads)
    x, y = lesson.x, lesson.y
    return trainer, lambda: trainer.step(x, y)


def torch(lesson: Lesson, fused: bool = False) -> Call:
    """The loop that everyone writes; the loss stays a tensor, so that nobody waits for it."""
    import torch

    torch.set_num_threads(1)

    class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, lesson.kind)(lesson.inputs, lesson.hidden, lesson.layers)
            self.head = torch.nn.Linear(lesson.hidden, lesson.outputs)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0])

    net = Net()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in lesson.weights.items()})
    adam = torch.optim.Adam(net.parameters(), lr=RATE, fused=fused or None)
    x, y = torch.from_numpy(lesson.x), torch.from_numpy(lesson.y).reshape(-1)
    cross_entropy = torch.nn.functional.cross_entropy

    def call() -> Any:
        adam.zero_grad()
        loss = cross_entropy(net(x).reshape(-1, lesson.outputs), y)
        loss.backward()
        adam.step()
        return loss.detach()

    return call


def torch_fused(lesson: Lesson) -> Call:
    """The same with Adam in one kernel."""
    return torch(lesson, fused=True)


TEACHERS: dict[str, Teacher] = {"tinyrnn": tinyrnn, "torch": torch, "torch_fused": torch_fused}
