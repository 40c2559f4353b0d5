"""Training nets of several inputs, outputs and axes of time: gradients, trainers, what fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graph_nets import inputs_of_three, net_of_three, numbers, three_in_torch

import tinyrnn as tr

STEPS, BATCH = 9, 4
LENGTHS = [STEPS, 5, 1, 7]


def gradients() -> dict[str, np.ndarray]:
    """Gradients of the outputs, zeros beyond each row's end."""
    dy = numbers(STEPS, BATCH, 5, seed=2)
    dy[np.arange(STEPS)[:, None] >= LENGTHS] = 0
    return {"out": dy, "who": numbers(BATCH, 3, seed=3)}


def leaves(net: tr.Net) -> dict[str, Any]:
    """The net's tensors as PyTorch trains them."""
    import torch

    return {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in net.state_dict().items()
    }


def near(ours: np.ndarray, theirs: Any, what: str) -> None:
    right = theirs.detach().numpy()
    assert np.abs(ours - right).max() <= 2e-5 * np.abs(right).max(), what


def test_values_and_gradients_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    net, (x, speaker, word), dys = net_of_three().train(), inputs_of_three(STEPS, BATCH), gradients()
    weights = leaves(net)
    one, two = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, speaker))
    wanted = three_in_torch(weights, one, two, torch.tensor(word))
    ys = net(x, speaker, word, lengths=LENGTHS)
    for row, end in enumerate(LENGTHS):
        assert np.abs(ys["out"][:end, row] - wanted["out"][:end, row].detach().numpy()).max() < 2e-6
    near(ys["who"], wanted["who"], "who")
    sum((wanted[name] * torch.tensor(dy)).sum() for name, dy in dys.items()).backward()
    dx, dspeaker, dword = net.backward(dys)
    assert dword is None
    near(dx, one.grad, "x")
    near(dspeaker, two.grad, "speaker")
    for name, gradient in net.grad_dict().items():
        near(gradient, weights[name].grad, name)


def test_gradients_come_in_the_form_of_the_call() -> None:
    net, (x, speaker, word), dys = net_of_three().train(), inputs_of_three(STEPS, BATCH), gradients()
    net(x, speaker, word)
    dx, dspeaker, _ = net.backward(dys)
    net({"word": word, "0": x, "speaker": speaker})
    named, dstate = net.backward(dys, dstate={})
    assert list(named) == ["0", "speaker", "word"] and named["word"] is None
    assert np.array_equal(named["0"], dx) and np.array_equal(named["speaker"], dspeaker)
    assert set(dstate) == {"rnn.h", "rnn.c"}
    # an output that is left out has the gradient zero
    net(x, speaker, word)
    less = net.backward({"out": dys["out"]})
    net(x, speaker, word)
    assert all(
        one is other or np.array_equal(one, other)
        for one, other in zip(less, net.backward({**dys, "who": np.zeros((BATCH, 3))}), strict=True)
    )
    assert not np.array_equal(less[1], dspeaker)
    # one row without an axis for the batch
    net(x[:, 2], speaker[2], word[:, 2])
    alone = net.backward({"out": dys["out"][:, 2], "who": dys["who"][2]})
    assert np.array_equal(alone[0], dx[:, 2]) and np.array_equal(alone[1], dspeaker[2])


def test_a_simple_net_takes_its_input_by_name() -> None:
    x = tr.Input(3)
    net = tr.Net(x, tr.GRU(3, 2)(x)).train()
    a, dy = numbers(STEPS, BATCH, 3), numbers(STEPS, BATCH, 2, seed=1)
    net(a)
    dx = net.backward(dy)
    net({"x": a})
    assert np.array_equal(net.backward(dy)["x"], dx)


@pytest.mark.parametrize("isa", tr.available_isas())
def test_bits_do_not_depend_on_threads_or_order(isa: str) -> None:
    tr.set_isa(isa)
    (x, speaker, word), dys = inputs_of_three(STEPS, BATCH), gradients()
    found = []
    for batch_first in (False, True):
        for threads in (1, 2, 3):
            net = net_of_three(batch_first).train()

            def turned(a: np.ndarray, swap: bool = batch_first) -> np.ndarray:
                return a.swapaxes(0, 1) if swap else a

            ys = net(turned(x), speaker, turned(word), lengths=LENGTHS, threads=threads)
            dx, dspeaker, _ = net.backward({"out": turned(dys["out"]), "who": dys["who"]})
            found.append(
                {"out": turned(ys["out"]), "who": ys["who"], "dx": turned(dx), "dspeaker": dspeaker}
                | net.grad_dict()
            )
    for other in found[1:]:
        assert all(np.array_equal(found[0][name], other[name]) for name in found[0])
    net = net_of_three()
    used = net(x, speaker, word, lengths=LENGTHS)
    inside = np.arange(STEPS)[:, None] < LENGTHS  # in training inputs are zero beyond
    assert np.array_equal(used["out"][inside], found[0]["out"][inside])
    assert np.array_equal(used["who"], found[0]["who"])


def test_two_axes_of_time() -> None:
    """Each axis has its steps and lengths; gradients are those of two nets."""
    tr.manual_seed(8)
    a, b = tr.Input(3, time="fast", name="a"), tr.Input(2, time="slow", name="b")
    one, two = tr.LSTM(3, 4), tr.GRU(2, 5)
    net = tr.Net([a, b], [one(a), two(b)]).train()
    x, z = numbers(STEPS, BATCH, 3), numbers(4, BATCH, 2, seed=1)
    dys = numbers(STEPS, BATCH, 4, seed=2), numbers(4, BATCH, 5, seed=3)
    lengths = {"fast": LENGTHS, "slow": [4, 1, 2, 3]}
    ys = net(x, z, lengths=lengths)
    dxs = net.backward(dys)
    found = net.grad_dict()
    net.zero_grad()
    for y, dx, layer, given, dy, time in zip(ys, dxs, (one, two), (x, z), dys, lengths, strict=True):
        assert np.array_equal(layer(given, lengths=lengths[time])[0], y)
        assert np.array_equal(layer.backward(dy), dx)
    assert all(np.array_equal(found[name], gradient) for name, gradient in net.grad_dict().items())


def test_a_wrong_gradient_changes_nothing() -> None:
    net, given, dys = net_of_three().train(), inputs_of_three(STEPS, BATCH), gradients()
    net(*given)
    before = net.grad_dict()
    with pytest.raises(tr.ShapeError, match=r"dy of output 1 has shape \(2, 3\), expected \(4, 3\)"):
        net.backward({**dys, "who": dys["who"][:2]})
    with pytest.raises(ValueError, match=r"dy: got \['what'\], expected some of"):
        net.backward({"what": dys["out"]})
    with pytest.raises(TypeError, match="dy: got ndarray, expected a tuple of 2, or a mapping"):
        net.backward(dys["out"])
    assert all(np.array_equal(before[name], gradient) for name, gradient in net.grad_dict().items())
    net.backward(dys)
    with pytest.raises(RuntimeError, match="got no forward pass"):
        net.backward(dys)
    with pytest.raises(tr.ShapeError, match="input 'speaker' has 3 rows, expected 4"):
        net(given[0], given[1][:3], given[2])


# ---- trainers ---------------------------------------------------------------------------------------


def targets() -> dict[str, np.ndarray]:
    return {"out": numbers(STEPS, BATCH, 5, seed=6), "who": np.array([0, 2, 1, 1])}


def trainer_of(net: tr.Net, **options: Any) -> tr.Trainer:
    losses = {"out": tr.MSELoss(), "who": tr.CrossEntropyLoss()}
    return net.trainer(tr.optim.SGD(net, lr=0.1, momentum=0.9), losses, batch=BATCH, steps=STEPS, **options)


def test_a_trainer_takes_torchs_steps() -> None:
    torch = pytest.importorskip("torch")
    net, given, wanted = net_of_three(), inputs_of_three(STEPS, BATCH), targets()
    weights = leaves(net)
    optimizer = torch.optim.SGD(weights.values(), lr=0.1, momentum=0.9)
    trainer = trainer_of(net, loss_weights={"who": 0.5})
    inside = torch.tensor(np.arange(STEPS)[:, None] < LENGTHS)
    x, speaker = (torch.tensor(a, dtype=torch.float64) for a in given[:2])
    for _ in range(5):
        optimizer.zero_grad()
        ys = three_in_torch(weights, x, speaker, torch.tensor(given[2]))
        mse = torch.nn.functional.mse_loss(ys["out"][inside], torch.tensor(wanted["out"]).double()[inside])
        loss = mse + 0.5 * torch.nn.functional.cross_entropy(ys["who"], torch.tensor(wanted["who"]))
        loss.backward()
        optimizer.step()
        assert abs(trainer.step(given, wanted, lengths=LENGTHS) - loss.item()) < 1e-5 * loss.item()
    for name, tensor in net.state_dict().items():
        near(tensor, weights[name], name)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_trainer_is_a_call_a_loss_and_a_step(batch_first: bool) -> None:
    """The bits of net(...), the losses, net.backward and the optimiser's step; with any number of threads."""
    (x, speaker, word), wanted = inputs_of_three(STEPS, BATCH), targets()
    if batch_first:
        x, word, wanted["out"] = (a.swapaxes(0, 1) for a in (x, word, wanted["out"]))
    by_hand = net_of_three(batch_first).train()
    optimizer = tr.optim.SGD(by_hand, lr=0.1, momentum=0.9)
    trainers = [trainer_of(net_of_three(batch_first), threads=threads) for threads in (1, 3)]
    for _ in range(3):
        optimizer.zero_grad()
        ys = by_hand(x, speaker, word, lengths=LENGTHS)
        first, dlast = tr.MSELoss()(ys["out"], wanted["out"], LENGTHS, batch_first=batch_first)
        second, dwho = tr.CrossEntropyLoss()(ys["who"], wanted["who"])
        by_hand.backward({"out": dlast, "who": dwho})
        optimizer.step()
        named = {"0": x, "speaker": speaker, "word": word}
        for trainer in trainers:
            assert trainer.evaluate(named, wanted, lengths=LENGTHS) == pytest.approx(float(first + second))
            loss = trainer.step(named, wanted, lengths=LENGTHS)
            # a loss adds up its numbers in the order of y, which batch_first changes
            assert loss == pytest.approx(float(first) + float(second), rel=1e-13)
    for trainer in trainers:
        for name, tensor in trainer.net.state_dict().items():
            assert np.array_equal(tensor, by_hand.state_dict()[name]), name


def test_an_output_without_a_loss_has_no_part() -> None:
    net, given = net_of_three(), inputs_of_three(STEPS, BATCH)
    before = net.state_dict()
    trainer = net.trainer(tr.optim.Adam(net, lr=0.01), {"out": tr.MSELoss()}, batch=BATCH, steps=STEPS)
    losses = [trainer.step(given, {"out": targets()["out"]}) for _ in range(40)]
    assert losses[-1] < 0.8 * losses[0]
    after = net.state_dict()
    moved = {name for name in after if not np.array_equal(after[name], before[name])}
    assert moved == set(after) - {"linear.weight", "linear.bias"}


def test_a_trainer_carries_state() -> None:
    (x, speaker, word), wanted = inputs_of_three(STEPS, BATCH), targets()["out"]
    net = net_of_three()
    trainer = net.trainer(tr.optim.SGD(net, lr=1e-30), {"out": tr.MSELoss()}, batch=BATCH, steps=5)
    state = trainer.new_state()
    trainer.step((x[:5], speaker, word[:5]), {"out": wanted[:5]}, state=state)
    trainer.step((x[5:], speaker, word[5:]), {"out": wanted[5:]}, state=state)
    net(x, speaker, word)
    assert all(np.array_equal(state[name], final) for name, final in net.last_state.items())


def test_steps_by_axis_of_time() -> None:
    tr.manual_seed(8)
    a, b = tr.Input(3, time="fast", name="a"), tr.Input(2, time="slow", name="b")
    net = tr.Net({"a": a, "b": b}, {"one": tr.LSTM(3, 4)(a), "two": tr.GRU(2, 5)(b)})
    trainer = net.trainer(
        tr.optim.Adam(net, lr=0.01),
        {"one": tr.MSELoss(), "two": tr.MSELoss()},
        batch=BATCH,
        steps={"fast": STEPS, "slow": 4},
    )
    x = {"a": numbers(STEPS, BATCH, 3), "b": numbers(4, BATCH, 2, seed=1)}
    y = {"one": numbers(STEPS, BATCH, 4, seed=2), "two": numbers(4, BATCH, 5, seed=3)}
    lengths = {"slow": [4, 1, 2, 3]}
    losses = [trainer.step(x, y, lengths=lengths) for _ in range(20)]
    assert losses[-1] < losses[0]
    with pytest.raises(tr.ShapeError, match=r"5 steps of 'slow', expected 1 .. 4"):
        trainer.step({**x, "b": numbers(5, BATCH, 2)}, y)


def test_a_step_that_fails_changes_nothing() -> None:
    net, (x, speaker, word), wanted = net_of_three(), inputs_of_three(STEPS, BATCH), targets()
    trainer = trainer_of(net)
    trainer.step((x, speaker, word), wanted)
    state = trainer.new_state()
    state["rnn.h"] = numbers(1, BATCH, 6)
    before, carried, moments = net.state_dict(), state.copy(), trainer.optimizer.state_dict()

    def unchanged() -> None:
        for name, tensor in net.state_dict().items():
            assert np.array_equal(tensor, before[name]), name
        assert np.array_equal(state.numbers, carried.numbers)
        assert str(trainer.optimizer.state_dict()) == str(moments)

    bad = speaker.copy()
    bad[2, 1] = np.nan
    with pytest.raises(tr.NonFiniteError, match=r"speaker holds nan at \[2, 1\]"):
        trainer.step((x, bad, word), wanted, state=state)
    unchanged()
    with pytest.raises(IndexError, match="output 'who': target 3 at"):
        trainer.step((x, speaker, word), {**wanted, "who": np.array([0, 3, 1, 1])}, state=state)
    unchanged()
    with pytest.raises(IndexError, match="input 'word': index 7"):
        trainer.step((x, speaker, np.full_like(word, 7)), wanted, state=state)
    unchanged()
    with pytest.raises(TypeError, match=r"y: got \['out'\], expected a mapping"):
        trainer.step((x, speaker, word), {"out": wanted["out"]}, state=state)
    with pytest.raises(TypeError, match="got 2 inputs, expected 3"):
        trainer.step((x, speaker), wanted, state=state)
    with pytest.raises(tr.ShapeError, match="has 3 rows, expected 4, the trainer's batch"):
        trainer.step((x[:, :3], speaker[:3], word[:, :3]), wanted, state=state)
    unchanged()
    trainer.step((x, speaker, word), wanted, state=state)


def test_what_a_trainer_refuses() -> None:
    net = net_of_three()
    adam = tr.optim.Adam(net)
    with pytest.raises(TypeError, match="loss is MSELoss, expected a mapping from output to loss"):
        net.trainer(adam, tr.MSELoss())
    with pytest.raises(ValueError, match=r"loss: got \['what'\], expected some of \['out', 'who'\]"):
        net.trainer(adam, {"what": tr.MSELoss()})
    with pytest.raises(ValueError, match=r"loss_weights: got \['who'\], expected some of \['out'\]"):
        net.trainer(adam, {"out": tr.MSELoss()}, loss_weights={"who": 2})
    with pytest.raises(ValueError, match=r"steps: got \['what'\], expected axes of time \['time'\]"):
        net.trainer(adam, {"out": tr.MSELoss()}, steps={"what": 3})
    with pytest.raises(ValueError, match="expected None: the inputs of the net have theirs"):
        net.trainer(adam, {"out": tr.MSELoss()}, frame=(6,))


# ---- fit, predict, evaluate ----------------------------------------------------------------------------


def samples(count: int = 23) -> tuple[dict[str, Any], list[np.ndarray], np.ndarray]:
    """Sequences of 1 to 9 steps, a target for each step, and a class for each sequence."""
    steps = np.random.default_rng(7).integers(1, 10, count)
    x = {
        "0": [numbers(n, 6, seed=i) for i, n in enumerate(steps)],
        "speaker": numbers(count, 4, seed=1),
        "word": [np.random.default_rng(i).integers(0, 7, n) for i, n in enumerate(steps)],
    }
    return x, [a[:, :5] * a[:, 5:] for a in x["0"]], np.arange(count) % 3


def sample(x: dict[str, Any], i: int) -> dict[str, Any]:
    return {name: rows[i] for name, rows in x.items()}


@pytest.mark.parametrize("batch_first", [False, True])
def test_predict_has_the_bits_of_calls(batch_first: bool) -> None:
    net, (x, _, _) = net_of_three(batch_first), samples()
    for options in ({}, {"batch_size": 5, "threads": 2}):
        found = net.predict(x, **options)
        for i in range(23):
            alone = net(sample(x, i))
            assert np.array_equal(found["out"][i], alone["out"])
            assert np.array_equal(found["who"][i], alone["who"])
    # arrays with lengths
    whole = {
        "0": numbers(BATCH, STEPS, 6),
        "speaker": numbers(BATCH, 4),
        "word": np.ones((BATCH, STEPS), int),
    }
    found = net.predict(whole, lengths=LENGTHS)
    for i, end in enumerate(LENGTHS):
        row = {"0": whole["0"][i, :end], "speaker": whole["speaker"][i], "word": whole["word"][i, :end]}
        assert np.array_equal(found["out"][i, :end], net(row)["out"])
        assert not found["out"][i, end:].any()


def test_evaluate_is_the_mean_over_what_counts() -> None:
    net, (x, y, who) = net_of_three(), samples()
    alone = [net(sample(x, i)) for i in range(23)]
    error = np.concatenate([a["out"] - b for a, b in zip(alone, y, strict=True)])
    found = net.evaluate(x, y, loss={"out": "mse"})
    assert found["loss"] == pytest.approx(float(np.mean(error.astype(float) ** 2)), rel=1e-6)
    assert net.evaluate(x, {"out": y}, 5, loss={"out": "mse"}, threads=2) == found
    guesses = np.stack([a["who"] for a in alone])
    found = net.evaluate(x, who, loss={"who": "cross_entropy"}, metrics="accuracy")
    assert found["accuracy"] == pytest.approx(np.mean(guesses.argmax(1) == who))
    logs = guesses - np.log(np.exp(guesses.astype(float)).sum(1, keepdims=True))
    assert found["loss"] == pytest.approx(-logs[np.arange(23), who].mean(), rel=1e-6)


class Losses(tr.callbacks.Callback):
    """The losses that a callback sees after each batch."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, float]]] = []

    def on_batch_end(self, run: Any, loss: float) -> None:
        self.seen.append((loss, run.losses))


@pytest.mark.parametrize("several", [False, True])
def test_fit_is_steps_of_a_trainer(several: bool) -> None:
    """One epoch in order, with the same bits; and the last, short batch."""
    x, y, who = samples(10)
    net, other = net_of_three(), net_of_three()
    losses: dict[str, tr.losses.Loss] = {"out": tr.MSELoss()}
    wanted: dict[str, Any] = {"out": y}
    if several:
        losses["who"], wanted["who"] = tr.CrossEntropyLoss(), who
    weights, watch = {"out": 0.25}, Losses()
    history = net.fit(
        x,
        wanted,
        1,
        4,
        loss=losses,
        loss_weights=weights,
        optimizer=tr.optim.SGD(net, lr=0.1),
        shuffle=False,
        verbose=0,
        callbacks=[watch],
    )
    optimizer = tr.optim.SGD(other, lr=0.1)
    total = count = guesses = 0.0
    for rows in (range(4), range(4, 8), range(8, 10)):
        trainer = other.trainer(optimizer, losses, batch=len(rows), steps=9, loss_weights=weights)
        ends = [len(y[i]) for i in rows]

        def padded(arrays: Any, rows: range = rows, most: int = max(ends)) -> np.ndarray:
            return np.stack(
                [
                    np.pad(arrays[i], [(0, most - len(arrays[i]))] + [(0, 0)] * (arrays[i].ndim - 1))
                    for i in rows
                ],
                axis=1,
            )

        given = {"0": padded(x["0"]), "speaker": x["speaker"][list(rows)], "word": padded(x["word"])}
        target = {"out": padded(y), "who": who[list(rows)]}
        loss = trainer.step(given, {name: target[name] for name in losses}, lengths=ends)
        assert watch.seen.pop(0) == (loss, trainer.losses)
        total += trainer.losses["out"] * sum(ends)
        guesses += trainer.losses.get("who", 0.0) * len(rows) / 10
        count += sum(ends)
    for name, tensor in net.state_dict().items():
        assert np.array_equal(tensor, other.state_dict()[name]), name
    assert history["loss"][0] == pytest.approx(0.25 * total / count + guesses, rel=1e-12)
    assert ("out_loss" in history) == ("who_loss" in history) == several
    if several:
        assert history["out_loss"][0] == pytest.approx(total / count, rel=1e-12)
        assert history["who_loss"][0] == pytest.approx(guesses, rel=1e-12)


BOTH: dict[str, Any] = {"out": "mse", "who": "cross_entropy"}


def test_evaluate_adds_losses_up() -> None:
    net, (x, y, who) = net_of_three(), samples()
    out = net.evaluate(x, y, loss={"out": "mse"})["loss"]
    one = net.evaluate(x, who, loss={"who": "cross_entropy"}, metrics="accuracy")
    both = net.evaluate(
        x,
        {"out": y, "who": who},
        5,
        loss=BOTH,
        loss_weights={"who": 3},
        metrics={"who": "accuracy", "out": {"error": lambda a, b: float(np.abs(a - b).max())}},
    )
    assert list(both) == ["loss", "out_loss", "who_loss", "out_error", "who_accuracy"]
    assert both["out_loss"] == out
    assert both["who_loss"] == one["loss"]
    assert both["who_accuracy"] == one["accuracy"]
    assert both["loss"] == out + 3 * one["loss"]
    alone = [net(sample(x, i))["out"] for i in range(23)]
    error = max(float(np.abs(a - b).max()) for a, b in zip(alone, y, strict=True))
    assert both["out_error"] == pytest.approx(error)
    # a sum beside a mean
    loss = {"out": tr.MSELoss(reduction="sum"), "who": "cross_entropy"}
    both = net.evaluate(x, {"out": y, "who": who}, loss=loss)
    assert both["out_loss"] == pytest.approx(out * sum(map(len, y)) * 5)
    assert both["loss"] == both["out_loss"] + one["loss"]


def test_callbacks_and_files_have_each_loss(tmp_path: Any) -> None:
    """A run that ends in the middle of an epoch goes on with the bits of a whole one."""
    x, y, who = samples()
    options: dict[str, Any] = {
        "loss": BOTH,
        "loss_weights": {"who": 0.5},
        "verbose": 0,
        "batch_size": 5,
        "validation_data": (x, {"out": y, "who": who}),
        "metrics": {"who": "accuracy"},
        "seed": 3,
    }
    file, table = tmp_path / "run.safetensors", tmp_path / "log.csv"

    def fitted(epochs: int, callbacks: list[Any], **more: Any) -> tuple[tr.Net, tr.History]:
        net = net_of_three()
        adam = tr.optim.Adam(net, lr=0.02)
        watched = [tr.callbacks.EarlyStopping("val_who_loss", patience=99), *callbacks]
        wanted = {"out": y, "who": who}
        return net, net.fit(x, wanted, epochs, optimizer=adam, callbacks=watched, **options, **more)

    class Stop(tr.callbacks.Callback):
        def on_batch_end(self, run: Any, loss: float) -> None:
            if (run.epoch, run.batch) == (2, 3):
                raise KeyboardInterrupt

    net, history = fitted(5, [tr.callbacks.CSVLogger(table)])
    own = ["loss", "out_loss", "who_loss"]
    measured = [*own, *(f"val_{name}" for name in own), "val_who_accuracy"]
    assert list(history.history) == [*measured, "lr", "grad_norm", "seconds"]
    assert table.read_text().splitlines()[0] == ",".join(["epoch", *history.history])
    for name in own:
        assert history[f"val_{name}"][-1] < history[f"val_{name}"][0]
    for epoch in range(5):
        assert history["loss"][epoch] == history["out_loss"][epoch] + 0.5 * history["who_loss"][epoch]
    fitted(5, [tr.callbacks.Checkpoint(file, unit="batch"), Stop()])
    del options["seed"]
    again, resumed = fitted(5, [tr.callbacks.Checkpoint(file, unit="batch")], resume=file)
    for name in measured:
        assert resumed[name] == history[name], name
    for name, tensor in again.state_dict().items():
        assert np.array_equal(tensor, net.state_dict()[name]), name
    # another weight, or a loss less, is another run
    fewer = {"loss": {"out": "mse"}, "loss_weights": None, "metrics": None, "validation_data": (x, y)}
    for wanted, change in (({"out": y, "who": who}, {"loss_weights": {"who": 2}}), ({"out": y}, fewer)):
        other = net_of_three()
        adam = tr.optim.Adam(other, lr=0.02)
        with pytest.raises(ValueError, match=r"is a checkpoint of another run: loss: got \{'out': 'MSELoss"):
            other.fit(x, wanted, 5, optimizer=adam, resume=file, **{**options, **change})


def test_what_several_losses_must_be() -> None:
    net, (x, y, who) = net_of_three(), samples()
    wanted = {"out": y, "who": who}
    with pytest.raises(
        TypeError, match=r"fit: y: got list, expected a mapping from output to target, as the"
    ):
        net.fit(x, y, loss=BOTH)
    with pytest.raises(TypeError, match=r"fit: y: got \['out'\], expected a mapping .* \['out', 'who'\]"):
        net.fit(x, {"out": y}, loss=BOTH)
    with pytest.raises(IndexError, match=r"fit: y: who: class 3 at \[2\] is out of range"):
        net.fit(x, {"out": y, "who": who + 1}, loss=BOTH)
    with pytest.raises(TypeError, match=r"metrics: got 'accuracy', expected a mapping from output to its me"):
        net.fit(x, wanted, loss=BOTH, metrics="accuracy", validation_data=(x, wanted))
    with pytest.raises(ValueError, match="Loss has no classes"):
        net.fit(x, wanted, loss=BOTH, metrics={"out": "accuracy"}, validation_data=(x, wanted))
    with pytest.raises(ValueError, match=r"fit: loss_weights: got \['odd'\], expected some of \['out', 'w"):
        net.fit(x, wanted, loss=BOTH, loss_weights={"odd": 1})
    with pytest.raises(ValueError, match=r"evaluate: loss_weights: who is 0\.?0?, expected a number above 0"):
        net.evaluate(x, wanted, loss=BOTH, loss_weights={"who": 0})
    with pytest.raises(tr.ShapeError, match="bptt needs a target for each step"):
        net.fit(x, wanted, loss=BOTH, bptt=3)
    with pytest.raises(
        ValueError, match="monitor is 'val_who_accuracy', expected one of grad_norm, loss, lr"
    ):
        net.fit(x, wanted, loss=BOTH, callbacks=[tr.callbacks.EarlyStopping("val_who_accuracy")])
    x, ones = tr.Input(2), np.ones((2, 3, 2))
    net = tr.Net(x, {"val": tr.Linear(2, 1)(x), "other": tr.Linear(2, 1)(x)})
    with pytest.raises(ValueError, match="two numbers have the name 'val_loss': rename an output"):
        net.fit(ones, {"val": ones[..., :1], "other": ones[..., :1]}, loss={"val": "mse", "other": "mse"})


def time_of_one() -> tuple[list[Any], Any, Any]:
    steps = (5, 7, 2, 4, 1, 9)
    xs = [numbers(n, 3, seed=i) for i, n in enumerate(steps)]
    return xs, [numbers(n, 4, seed=9 + i) for i, n in enumerate(steps)], numbers(6, 4, seed=8)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["graph", "named", "nested", "mean", "mean of a graph", "last of a chain"])
def test_nets_of_one_input_and_one_output(kind: str, batch_first: bool) -> None:
    """Samples of a graph or of a chain with a value per sequence, against calls of each sample."""
    tr.manual_seed(8)
    x = tr.Input(3)
    h = tr.GRU(3, 4, batch_first=batch_first)(x)
    chain = [tr.GRU(3, 4, batch_first=batch_first), tr.MeanOverTime(), tr.Linear(4, 4)]
    net: Any = {
        "graph": lambda: tr.Net(x, h),
        "named": lambda: tr.Net(x, {"score": h}),
        "nested": lambda: tr.Sequential(tr.Net(x, tr.Linear(4, 3)(h)), tr.Linear(3, 4)),
        "mean": lambda: tr.Sequential(*chain),
        "mean of a graph": lambda: tr.Net(x, tr.MeanOverTime()(h)),
        "last of a chain": lambda: tr.Sequential(chain[0], tr.LastStep()),
    }[kind]()
    xs, each, one = time_of_one()
    per_sequence = kind in ("mean", "mean of a graph", "last of a chain")
    y: Any = one if per_sequence else each
    alone = [net(row) for row in xs]
    found = net.predict(xs, batch_size=4)
    assert isinstance(found, np.ndarray) == per_sequence
    for a, b in zip(found, alone, strict=True):
        assert np.array_equal(a, b)
    error = np.concatenate([(a - b).ravel() for a, b in zip(alone, y, strict=True)]).astype(float)
    loss = net.evaluate(xs, y, loss="mse", metrics={"error": lambda a, b: np.abs(a - b).max()})
    assert loss["loss"] == pytest.approx(np.mean(error**2), rel=1e-6)
    assert loss["error"] == pytest.approx(np.abs(error).max(), rel=1e-6)
    still = tr.optim.SGD(net, lr=1e-30)
    assert net.fit(xs, y, 1, 4, loss="mse", optimizer=still, verbose=0)["loss"][0] == pytest.approx(
        loss["loss"], rel=1e-6
    )
    history = net.fit(xs, y, 20, 4, loss="mse", optimizer=tr.optim.Adam(net, lr=0.05), verbose=0)
    assert history["loss"][-1] < 0.9 * loss["loss"]
    if per_sequence:
        with pytest.raises(ValueError, match="last is True, expected False: the output is one a sequence"):
            net.predict(xs, last=True)
    else:
        assert np.array_equal(net.predict(xs, last=True), [net(row)[-1] for row in xs])
    if kind == "named":  # one array, whether names are used or not
        assert np.array_equal(net.predict({"x": xs})[1], net(xs[1]))
        again = net.evaluate({"x": xs}, {"score": y}, loss={"score": "mse"}, loss_weights={"score": 0.5})
        assert again["loss"] == 0.5 * net.evaluate(xs, y, loss="mse")["loss"]
        assert np.array_equal(net.train()({"x": xs[0]}), net(xs[0]))
        assert net.backward(np.ones((5, 4))).shape == (5, 3)


def test_fit_learns_validates_and_resumes(tmp_path: Any) -> None:
    x, y, who = samples()
    options: dict[str, Any] = {
        "loss": {"out": "mse"},
        "verbose": 0,
        "batch_size": 5,
        "validation_data": (x, y),
        "seed": 3,
    }
    net = net_of_three()
    history = net.fit(x, y, 6, optimizer=tr.optim.Adam(net, lr=0.02), **options)
    assert history["val_loss"][-1] < 0.85 * history["val_loss"][0]
    assert history["val_loss"][-1] == net.evaluate(x, y, loss={"out": "mse"})["loss"]
    file = tmp_path / "run.safetensors"
    first, second = net_of_three(), net_of_three()
    keep = tr.callbacks.Checkpoint(file)
    first.fit(x, y, 3, optimizer=tr.optim.Adam(first, lr=0.02), callbacks=[keep], **options)
    again = tr.callbacks.Checkpoint(file)
    del options["seed"]
    second.fit(
        x,
        y,
        6,
        optimizer=tr.optim.Adam(second, lr=0.02),
        callbacks=[again],
        resume=file,
        threads=2,
        **options,
    )
    for name, tensor in second.state_dict().items():
        assert np.array_equal(tensor, net.state_dict()[name]), name
    # a class for each sequence
    guess = net_of_three()
    history = guess.fit(x, who, 30, loss={"who": "cross_entropy"}, optimizer="adam", verbose=0)
    assert history["loss"][-1] < history["loss"][0]


def test_truncated_bptt_carries_the_state() -> None:
    x, y, _ = samples(3)
    x = {
        "0": [numbers(8, 6, seed=i) for i in range(3)],
        "speaker": x["speaker"],
        "word": [np.arange(8) % 7] * 3,
    }
    y = [numbers(8, 5, seed=i) for i in range(3)]
    net = net_of_three()
    optimizer = tr.optim.SGD(net, lr=1e-30)
    history = net.fit(x, y, 1, 3, loss={"out": "mse"}, optimizer=optimizer, bptt=3, verbose=0)
    assert history["loss"][0] == pytest.approx(net.evaluate(x, y, loss={"out": "mse"})["loss"], rel=1e-6)


def test_what_samples_must_be() -> None:
    net, (x, y, who) = net_of_three(), samples()
    loss = {"out": "mse"}
    with pytest.raises(TypeError, match="fit: x: got list, expected a mapping from input to samples"):
        net.fit(x["0"], y, loss=loss)
    with pytest.raises(tr.ShapeError, match="fit: x: speaker: got 22 samples, expected 23, as fit: x: 0"):
        net.fit({**x, "speaker": x["speaker"][:22]}, y, loss=loss)
    with pytest.raises(tr.ShapeError, match=r"fit: x: word\[0\]: has \d+ steps of 'time', expected"):
        net.fit({**x, "word": [np.zeros(10, int), *x["word"][1:]]}, y, loss=loss)
    with pytest.raises(tr.ShapeError, match=r"fit: x: speaker: got samples of shape \(3,\), expected \(4\)"):
        net.fit({**x, "speaker": x["speaker"][:, :3]}, y, loss=loss)
    with pytest.raises(TypeError, match=r"loss is 'mse', expected a mapping from output to loss: \['out', "):
        net.fit(x, y, loss="mse")
    with pytest.raises(ValueError, match=r"fit: loss: got \['odd'\], expected some of \['out', 'who'\]"):
        net.fit(x, y, loss={"odd": "mse"})
    with pytest.raises(IndexError, match="evaluate: y: class 3"):
        net.evaluate(x, who + 1, loss={"who": "cross_entropy"})
    bad = x["speaker"].copy()
    bad[5, 1] = np.nan
    with pytest.raises(ValueError, match=r"fit: x: speaker: got nan at \[5, 1\] \(sample 5\)"):
        net.fit({**x, "speaker": bad}, y, loss=loss)


def test_an_output_per_sequence_of_what_was_read() -> None:
    """A mean over time beside an output of each step: gradients of a call and of the layers by hand."""
    tr.manual_seed(4)
    x = tr.Input(6)
    h = tr.GRU(6, 4)(x)
    net = tr.Net(x, {"steps": h, "mean": tr.MeanOverTime()(h)}).train()
    a, dsteps, dmean = numbers(STEPS, BATCH, 6), numbers(STEPS, BATCH, 4, seed=1), numbers(BATCH, 4, seed=2)
    lengths = np.array(LENGTHS)
    inside = np.arange(STEPS)[:, None] < lengths
    dsteps[~inside] = 0
    ys = net(a, lengths=LENGTHS)
    dx = net.backward({"steps": dsteps, "mean": dmean})
    gru = net["gru"].train()
    h, _ = gru(a, lengths=LENGTHS)
    assert np.array_equal(h, ys["steps"])
    assert np.abs(ys["mean"] - h.sum(0) / lengths[:, None]).max() < 1e-6
    wanted = gru.backward(dsteps + np.where(inside[..., None], dmean / lengths[:, None], 0))
    assert np.abs(dx - wanted).max() < 1e-6
    trainer = net.trainer(tr.optim.Adam(net), {"mean": tr.MSELoss()}, batch=BATCH, steps=STEPS)
    losses = [trainer.step(a, {"mean": dmean}, lengths=LENGTHS) for _ in range(30)]
    assert losses[-1] < losses[0]
    rows = [a[:end, i] for i, end in enumerate(LENGTHS)]
    assert np.array_equal(net.eval().predict(rows)["mean"], net(a, lengths=LENGTHS)["mean"])
    assert np.isfinite(net.fit(rows, dmean, 2, loss={"mean": "mse"}, verbose=0)["loss"]).all()


def outputs_at_one_place(x: tr.Value, h: tr.Value) -> list[dict[str, tr.Value]]:
    """Outputs that are one value, or the same numbers in frames of another shape."""
    return [
        {"a": h, "b": h},
        {"a": h, "b": h.reshape(2, 2)},
        {"a": h.reshape(2, 2), "b": h.reshape(4, 1), "c": h},
        {"a": x, "b": h, "c": x.reshape(2, 2)},
    ]


@pytest.mark.parametrize("which", range(4))
def test_outputs_that_share_their_numbers_have_gradients_of_their_own(which: int) -> None:
    x = tr.Input(4)
    h = tr.Linear(4, 4)(x).named("h")
    net = tr.Net(x, outputs_at_one_place(x, h)[which])
    array = numbers(STEPS, BATCH, 4)
    used = net(array)
    net.train()
    ys = net(array)
    assert all(np.array_equal(ys[name].view(np.int32), used[name].view(np.int32)) for name in ys)
    dys = {name: numbers(*y.shape, seed=seed) for seed, (name, y) in enumerate(ys.items(), 4)}
    dx = net.backward(dys)
    of_h = sum(dy.reshape(STEPS, BATCH, 4) for name, dy in dys.items() if not (which == 3 and name != "b"))
    of_x = sum(dy.reshape(STEPS, BATCH, 4) for name, dy in dys.items() if which == 3 and name != "b")
    assert np.allclose(net.grad_dict()["h.bias"], of_h.sum((0, 1)), atol=1e-5)
    assert np.allclose(dx, of_h @ net.state_dict()["h.weight"] + of_x, atol=1e-5)
    losses = {name: tr.MSELoss() for name in ys}
    trainer = net.trainer(tr.optim.SGD(net, lr=0.05), losses, batch=BATCH, steps=STEPS)
    values = [trainer.step(array, {name: 0 * y for name, y in ys.items()}) for _ in range(30)]
    assert values[-1] < values[0]


@pytest.mark.parametrize("time", ["time", "frames"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_net_of_one_input_trains_by_names_and_axes(time: str, stride: int) -> None:
    x = tr.Input(3, name="audio", time=time)
    net = tr.Net(x, {"class": tr.TimeConv1d(3, 2, 2, stride=stride, padding=0)(tr.GRU(3, 3)(x))})
    array, ends = numbers(STEPS, BATCH, 3), [STEPS, 5, 2, 7]
    due = net.output_lengths({time: ends})
    assert np.array_equal(due, net.output_lengths(ends)) and due[0] == (STEPS - 2) // stride + 1
    y = net({"audio": array}, lengths={time: ends})
    assert np.array_equal(y, net(array, lengths=ends))
    still = tr.optim.SGD(net, lr=0.0)
    trainers = [
        net.trainer(still, tr.MSELoss(), batch=BATCH, steps=steps) for steps in (STEPS, {time: STEPS})
    ]
    assert trainers[0].step(array, 0 * y, lengths=ends) == trainers[1].step(
        {"audio": array}, {"class": 0 * y}, lengths={time: ends}
    )
    rows = array.swapaxes(0, 1)
    assert np.array_equal(net.predict({"audio": rows}), net.predict(rows))
    assert f"'{time}'" in net.describe()
    with pytest.raises(ValueError, match=f"'other'.*'{time}'"):
        trainers[0].step(array, 0 * y, lengths={"other": ends})
    with pytest.raises(ValueError, match=f"'other'.*'{time}'"):
        net.trainer(still, tr.MSELoss(), steps={"other": STEPS})


def test_a_batch_normalisation_in_a_loop_is_named() -> None:
    x, before = tr.Input(3), tr.Feedback(3)
    h = tr.BatchNorm1d(3)(tr.Linear(3, 3)(x) + before).named("norm")
    before.connect(h)
    net = tr.Net(x, h)
    assert net(numbers(STEPS, BATCH, 3)).shape == (STEPS, BATCH, 3)
    with pytest.raises(ValueError, match="within a loop: one of norm normalises across the batch"):
        net.train()(numbers(STEPS, BATCH, 3))
