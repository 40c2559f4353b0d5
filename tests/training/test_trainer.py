"""The trainer: PyTorch's steps, the memory that it announces, and no change by a step that fails."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tinyrnn as tr

Array = NDArray[Any]
BATCH, STEPS, CLASSES = 3, 7, 5


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def classes(seed: int, *shape: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, CLASSES, shape, dtype=np.int32)


def tagger(**options: Any) -> tr.Sequential:
    tr.manual_seed(0)
    return tr.Sequential(
        {
            "rnn": tr.LSTM(4, 6, **options),
            "norm": tr.BatchNorm1d(STEPS) if options.get("batch_first") else tr.LayerNorm(6),
            "drop": tr.Dropout(0.3),
            "head": tr.Linear(6, CLASSES),
        }
    )


def everything(net: tr.Net, optimizer: tr.optim.Optimizer) -> Any:
    """All that a step may change, as bytes."""
    weights = {name: array.tobytes() for name, array in net.state_dict().items()}
    return weights, net._practised().passes, net.training, repr(optimizer.state_dict())


# ---- PyTorch ------------------------------------------------------------------------------------------


def torch_tagger(torch: Any, kind: str, layers: int) -> Any:
    class Module(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.rnn = getattr(torch.nn, kind)(4, 6, layers)
            self.head = torch.nn.Linear(6, CLASSES)

        def forward(self, x: Any, state: Any = None) -> Any:
            y, state = self.rnn(x, state)
            return self.head(y), state

    return Module()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_steps_are_those_of_pytorch(kind: str, threads: int) -> None:
    """Truncated backpropagation through time, like PyTorch's.

    Three sequences in chunks, the state carried, gradients clipped by their norm, Adam.
    """
    torch = pytest.importorskip("torch")
    tr.manual_seed(0)
    net = tr.Sequential({"rnn": getattr(tr, kind)(4, 6, 2), "head": tr.Linear(6, CLASSES)})
    twin = torch_tagger(torch, kind, 2)
    twin.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in net.state_dict().items()})
    trainer = net.trainer(
        tr.optim.Adam(net, lr=0.02), tr.CrossEntropyLoss(), BATCH, STEPS, clip_norm=0.3, threads=threads
    )
    adam = torch.optim.Adam(twin.parameters(), lr=0.02)
    x, y = normal(0, 12, BATCH, 4), classes(1, 12, BATCH)
    for epoch in range(4):
        state, twin_state = trainer.new_state(), None
        for chunk in (slice(0, 7), slice(7, 12)):
            value = trainer.step(x[chunk], y[chunk], state=state)
            if twin_state is not None:
                twin_state = tuple(s.detach() for s in twin_state) if kind == "LSTM" else twin_state.detach()
            adam.zero_grad()
            logits, twin_state = twin(torch.from_numpy(x[chunk]), twin_state)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), torch.from_numpy(y[chunk]).long().flatten()
            )
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
            adam.step()
            assert value == pytest.approx(loss.item(), rel=1e-5), epoch
            assert trainer.norm == pytest.approx(norm.item(), rel=1e-4)
        h = twin_state[0] if kind == "LSTM" else twin_state
        assert np.allclose(state["rnn.h"], h.detach().numpy(), atol=1e-5)
    for name, tensor in twin.state_dict().items():
        assert np.allclose(net.state_dict()[name], tensor.numpy(), rtol=1e-4, atol=1e-5), name


def test_ctc_steps_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    tr.manual_seed(0)
    net = tr.Sequential({"rnn": tr.GRU(4, 6), "head": tr.Linear(6, CLASSES), "log": tr.LogSoftmax(-1)})
    twin = torch_tagger(torch, "GRU", 1)
    twin.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in net.state_dict().items()})
    trainer = net.trainer(tr.optim.SGD(net, lr=0.1), tr.CTCLoss(), BATCH, STEPS, target_steps=3)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1)
    x, lengths = normal(0, STEPS, BATCH, 4), np.array([7, 5, 6], np.int32)
    labels, counts = classes(1, BATCH, 3) % 4 + 1, np.array([3, 1, 2], np.int32)
    for _ in range(5):
        value = trainer.step(x, (labels, counts), lengths=lengths)
        sgd.zero_grad()
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            torch.from_numpy(x), torch.from_numpy(lengths).long(), enforce_sorted=False
        )
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(twin.rnn(packed)[0])
        loss = torch.nn.functional.ctc_loss(
            twin.head(y).log_softmax(-1),
            *(torch.from_numpy(a).long() for a in (labels, lengths, counts)),
        )
        loss.backward()
        sgd.step()
        assert value == pytest.approx(loss.item(), rel=1e-5)


# ---- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_a_step_allocates_what_memory_says(threads: int) -> None:
    """The first step allocates as much as `memory` says; the next ones allocate no array."""
    tr.manual_seed(0)
    net = tr.Sequential(tr.LSTM(20, 64, 2), tr.Linear(64, CLASSES))
    adam = tr.optim.Adam(net)
    x, y = normal(0, 50, 8, 20), classes(1, 50, 8)
    tracemalloc.start()
    try:
        trainer = net.trainer(adam, tr.CrossEntropyLoss(), 8, 50, threads=threads)
        told = trainer.memory
        started, _ = tracemalloc.get_traced_memory()
        trainer.step(x, y)
        kept, _ = tracemalloc.get_traced_memory()
        assert told.total == sum(told)
        assert told.weights == told.gradients == net.memory().weights
        lazily = told.gradients + told.tape + told.scratch + told.state
        assert (
            abs(kept - started - lazily) < told.weights + told.optimizer + 50_000
        )  # what the net makes lazily
        for _ in range(3):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            trainer.step(x, y)
            after, peak = tracemalloc.get_traced_memory()
            assert peak - before < 8_000 and after - before < 2_000
    finally:
        tracemalloc.stop()


def test_scratch_grows_linearly_with_threads() -> None:
    net = tagger()
    memory = [
        net.trainer(tr.optim.SGD(net, lr=0.1), tr.CrossEntropyLoss(), 8, STEPS, threads=n).memory
        for n in (1, 2, 4)
    ]
    assert memory[0].tape == memory[1].tape == memory[2].tape
    assert memory[2].scratch - memory[1].scratch == 2 * (memory[1].scratch - memory[0].scratch)


def test_frozen_layers_take_no_memory_for_gradients() -> None:
    net = tagger()
    whole = net.trainer(tr.optim.Adam(net), tr.CrossEntropyLoss(), BATCH, STEPS).memory
    other = tagger()
    other.freeze("rnn")
    part = other.trainer(tr.optim.Adam(other), tr.CrossEntropyLoss(), BATCH, STEPS).memory
    assert part.gradients < whole.gradients and part.optimizer < whole.optimizer
    assert part.weights == whole.weights


# ---- what does not work changes nothing ----------------------------------------------------------------

X, Y = normal(0, STEPS, BATCH, 4), classes(1, STEPS, BATCH)


def with_nan() -> Array:
    x = X.copy()
    x[3, 1, 2] = np.nan
    return x


def beyond() -> Array:
    y = Y.copy()
    y[2, 1] = CLASSES
    return y


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (X, beyond(), {}, IndexError, r"step: target 5 at \[2, 1\] is out of range, expected 0 .. 4"),
        (X, Y[:-1], {}, tr.ShapeError, r"target has shape \(6, 3\), expected \(7, 3\)"),
        (X, normal(0, *Y.shape), {}, TypeError, "target has dtype float32, expected integers"),
        (X[:, :2], Y, {}, tr.ShapeError, r"x has shape \(7, 2, 4\), expected \(T, 3, 4\) with T = 1 .. 7"),
        (normal(0, 8, BATCH, 4), Y, {}, tr.ShapeError, r"x has shape \(8, 3, 4\)"),
        (X, Y, {"lengths": [1, 2]}, tr.ShapeError, "lengths"),
        (X, Y, {"lengths": [1, 2, 8]}, ValueError, "lengths"),
        (X, Y, {"lengths": [0, 2, 7]}, ValueError, "lengths"),
        (
            X,
            Y,
            {"state": {"rnn.h": np.zeros((BATCH, 6))}},
            TypeError,
            r"step: state is dict, expected new_state\(\)",
        ),
        (
            with_nan(),
            Y,
            {},
            tr.NonFiniteError,
            r"head.bias \(linear\) has 5 NaN in 5 numbers; .*. x holds nan at \[3, 1, 2\]. The weights",
        ),
    ],
)
def test_a_step_that_fails_changes_nothing(
    x: Array, y: Array, options: dict[str, Any], error: Any, message: str
) -> None:
    net = tagger()
    adam = tr.optim.Adam(net, lr=0.1)
    trainer = net.trainer(adam, tr.CrossEntropyLoss(), BATCH, STEPS)
    trainer.step(X, Y)
    before = everything(net, adam)
    with pytest.raises(error, match=message):
        trainer.step(x, y, **options)
    assert everything(net, adam) == before
    other = tagger()
    adam = tr.optim.Adam(other, lr=0.1)
    unbroken = other.trainer(adam, tr.CrossEntropyLoss(), BATCH, STEPS)
    other._practised().seed, other._practised().passes = net._practised().seed, 0
    for _ in range(2):
        last = unbroken.step(X, Y)
    assert trainer.step(X, Y) == last  # the same masks, too


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_survive_a_step_that_fails(momentum: float | None) -> None:
    tr.manual_seed(0)
    net = tr.Sequential(tr.Linear(4, 6), tr.BatchNorm1d(6, momentum=momentum), tr.Linear(6, CLASSES))
    sgd = tr.optim.SGD(net, lr=0.1)
    trainer = net.trainer(sgd, tr.CrossEntropyLoss(), BATCH)
    trainer.step(X[0], Y[0])
    before = everything(net, sgd)
    with pytest.raises(IndexError, match=r"target 9 at \[0\]"):
        trainer.step(X[1], np.array([9, 0, 0], np.int32))
    with pytest.raises(tr.NonFiniteError):
        trainer.step(X[1] * np.float32("nan"), Y[1])
    assert everything(net, sgd) == before


def test_a_state_survives_a_step_that_fails() -> None:
    net = tagger()
    trainer = net.trainer(tr.optim.SGD(net, lr=0.1), tr.CrossEntropyLoss(), BATCH, STEPS)
    state = trainer.new_state()
    trainer.step(X, Y, state=state)
    before = state.numbers.tobytes()
    with pytest.raises(IndexError):
        trainer.step(X, beyond(), state=state)
    with pytest.raises(tr.NonFiniteError):
        trainer.step(with_nan(), Y, state=state)
    assert state.numbers.tobytes() == before


def test_more_labels_than_the_trainer_has_room_for() -> None:
    net = tr.Sequential(tr.GRU(4, 6), tr.LogSoftmax(-1))
    sgd = tr.optim.SGD(net, lr=0.1)
    trainer = net.trainer(sgd, tr.CTCLoss(), 2, STEPS)
    before = everything(net, sgd)
    for labels in ([[1, 2], [1]], [[1, 2, 3] * 200, [1]]):
        with pytest.raises(tr.ShapeError, match="labels, expected 0 at most, the trainer's target_steps"):
            trainer.step(normal(0, STEPS, 2, 4), labels)
    assert everything(net, sgd) == before
    assert net.trainer(sgd, tr.CTCLoss(), 2, STEPS, target_steps=2).step(
        normal(0, STEPS, 2, 4), [[1, 2], [1]]
    )


@pytest.mark.parametrize("nonfinite", ["skip", "warn"])
def test_a_step_with_a_gradient_that_is_not_finite_may_be_skipped(nonfinite: str) -> None:
    net = tagger()
    sgd = tr.optim.SGD(net, lr=0.1)
    trainer = net.trainer(sgd, tr.CrossEntropyLoss(), BATCH, STEPS, nonfinite=nonfinite)
    before = everything(net, sgd)
    if nonfinite == "warn":
        with pytest.warns(
            RuntimeWarning, match=r"head.bias .* x holds nan at \[3, 1, 2\]. This step is left out."
        ):
            trainer.step(with_nan(), Y)
    else:
        trainer.step(with_nan(), Y)
    assert everything(net, sgd) == before


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda net, sgd, loss: net.trainer(net, loss), TypeError, "optimizer is <class .*Sequential"),
        (lambda net, sgd, loss: net.trainer(sgd, sgd), TypeError, "loss is SGD"),
        (
            lambda net, sgd, loss: net.trainer(sgd, tr.MSELoss(reduction="none")),
            ValueError,
            "reduction 'none'",
        ),
        (lambda net, sgd, loss: net.trainer(sgd, loss, 0), ValueError, "batch is 0"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, 1.5), TypeError, "batch is 1.5"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, steps=-1), ValueError, "steps is -1"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, threads=0), ValueError, "threads is 0"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, clip_norm=-1), ValueError, "clip_norm is -1"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, nonfinite="hope"), ValueError, "nonfinite is 'hope'"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, 2**20, 2**20), OverflowError, "too large"),
        (lambda net, sgd, loss: net.trainer(sgd, loss, frame=4), TypeError, "frame is 4, expected the sizes"),
        (lambda net, sgd, loss: tagger().trainer(sgd, loss), ValueError, "no parameter of this net"),
        (lambda net, sgd, loss: tr.optim.SGD(net, lr=-0.1), ValueError, "lr is -0.1"),
    ],
)
def test_what_no_trainer_takes(make: Callable[..., Any], error: Any, message: str) -> None:
    net = tagger()
    with pytest.raises(error, match=message):
        make(net, tr.optim.SGD(net, lr=0.1), tr.CrossEntropyLoss())


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_an_index_out_of_range_is_named(dtype: type) -> None:
    net = tr.Sequential(tr.Embedding(5, 3), tr.RNN(3, 2))
    trainer = net.trainer(tr.optim.SGD(net, lr=0.1), tr.MSELoss(), batch=2, steps=3)
    x = np.array([[0, 1], [4, 2], [3, 7]], dtype)
    with pytest.raises(IndexError, match=r"step: x: index 7 at \[2, 1\] is out of range, expected 0 .. 4"):
        trainer.step(x, np.zeros((3, 2, 2), np.float32))


def test_a_net_that_is_frozen_throughout() -> None:
    net = tagger()
    sgd = tr.optim.SGD(net, lr=0.1)
    trainer = net.trainer(sgd, tr.CrossEntropyLoss(), BATCH, STEPS)
    net.freeze()
    before = everything(net, sgd)
    for _ in range(2):
        with pytest.raises(ValueError, match="all parameters are frozen, expected some to train"):
            trainer.step(X, Y)
    assert everything(net, sgd) == before
    net.unfreeze("head.bias")
    trainer.step(X, Y)
    assert {name for name, tensor in everything(net, sgd)[0].items() if tensor != before[0][name]} == {
        "head.bias"
    }


# ---- fine-tuning ----------------------------------------------------------------------------------------


def test_fine_tuning_a_checkpoint_of_pytorch(tmp_path: Any) -> None:
    """Load, freeze all but the head, train, save: the module takes it back, nothing changed but the head."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    torch.manual_seed(0)
    module = torch_tagger(torch, "LSTM", 2)
    torch.save(module.state_dict(), tmp_path / "module.pt")
    net = tr.Sequential({"rnn": tr.LSTM(4, 6, 2), "head": tr.Linear(6, CLASSES)})
    net.load_state_dict(tr.load_weights(tmp_path / "module.pt"))
    net.freeze()
    net.unfreeze("head")
    trainer = net.trainer(tr.optim.Adam(net, lr=0.05), tr.CrossEntropyLoss(), BATCH, STEPS)
    values = [trainer.step(X, Y) for _ in range(60)]
    assert values[-1] < values[0] - 0.05
    net.save(tmp_path / "tuned.safetensors")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(safetensors.load_file(tmp_path / "tuned.safetensors"), strict=True)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("rnn."), name
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(
            module(torch.from_numpy(X))[0].flatten(0, 1), torch.from_numpy(Y).long().flatten()
        )
    assert trainer.evaluate(X, Y) == pytest.approx(loss.item(), rel=1e-5)


def test_repr():
    net = tr.Sequential(tr.GRU(3, 5), tr.Linear(5, 2))
    optimizer, loss = tr.optim.SGD(net, lr=0.1), tr.MSELoss()
    text = repr(net.trainer(optimizer, loss, batch=4, steps=9, threads=2, clip_norm=0.5, nonfinite="skip"))
    parts = [
        f"  {name}: " + repr(part).replace("\n", "\n  ")
        for name, part in (("net", net), ("optimizer", optimizer), ("loss", loss))
    ]
    last = "  batch=4, steps=9, frame=(3,), threads=2, clip_norm=0.5, clip_value=None, nonfinite='skip'"
    assert text.splitlines() == "\n".join(["Trainer(", *parts, last, ")"]).splitlines()
