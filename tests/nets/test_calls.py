"""Calls on whole sequences: buffers that a net keeps from one to the next, last steps, empty batches."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import _core, calls, plans


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def flat(result: Any) -> list[np.ndarray]:
    """The arrays of a result, however nested."""
    return [array for part in result for array in flat(part)] if isinstance(result, tuple) else [result]


def assert_same(a: Any, b: Any) -> None:
    assert len(flat(a)) == len(flat(b))
    for left, right in zip(flat(a), flat(b), strict=True):
        assert left.shape == right.shape and left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


NETS = {
    "Linear": lambda: tr.Linear(6, 4),
    "LSTM": lambda: tr.LSTM(6, 5, 2, proj_size=3),
    "GRU, both ways": lambda: tr.GRU(6, 5, bidirectional=True),
    "RNN, batch first": lambda: tr.RNN(6, 5, batch_first=True),
    "recurrent": lambda: tr.Sequential(tr.Linear(6, 4), tr.GRU(4, 5), tr.ReLU(), tr.Linear(5, 2)),
    "pure": lambda: tr.Sequential(tr.Linear(6, 4), tr.ReLU(), tr.Softmax(-1)),
    "both": lambda: tr.Sequential(tr.LSTM(6, 4, bidirectional=True), tr.LayerNorm(8), tr.LSTM(8, 3)),
}


# ---- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_a_second_call_of_a_shape_lays_nothing_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = NETS[name](), normal(7, 3, 6)
    first = [net(x), net(x, threads=2), net(x[:, :1])]
    monkeypatch.setattr(_core, "Plan", None)
    monkeypatch.setattr(_core, "Part", None)
    for _ in range(3):
        for again, wanted in zip([net(x), net(x, threads=2), net(x[:, :1])], first, strict=True):
            assert_same(again, wanted)


def test_a_cell_lays_nothing_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, x = tr.LSTMCell(6, 4), normal(5, 6)
    h, c = cell(x)
    one = cell(x[0])
    monkeypatch.setattr(_core, "Plan", None)
    assert_same(cell(x), (h, c))
    assert_same(cell(x[0]), one)
    assert_same(tuple(part[2] for part in cell(x, (h, c))), cell(x[2], (h[2], c[2])))


def test_results_are_the_callers_own() -> None:
    for make in [*NETS.values(), lambda: tr.LSTMCell(6, 4)]:
        net, x = make(), normal(4, 6)
        first = net(x)
        kept = copy.deepcopy(first)
        state = net.last_state
        net(normal(4, 6, seed=1))
        assert_same(first, kept)
        net(x)
        assert_same(tuple(net.last_state.values()), tuple(state.values()))


def test_many_threads_call_one_net() -> None:
    nets = {name: make() for name, make in NETS.items()} | {"cell": tr.GRUCell(6, 4)}
    jobs: list[tuple[str, np.ndarray, dict[str, Any]]] = []
    for round_ in range(6):
        for name, net in nets.items():
            for steps in (1, 5, 70):
                for batch in (1, 2, 3, 5, 8):
                    x = normal(steps, batch, 6, seed=len(jobs))
                    options: dict[str, Any] = {}
                    if name == "cell":
                        x = x[0]
                    elif round_ % 3 == 1:
                        options["threads"] = 2
                    elif round_ % 3 == 2 and net._recurrent:
                        rows, most = (steps, batch) if name == "RNN, batch first" else (batch, steps)
                        options["lengths"] = np.random.default_rng(round_).integers(1, most + 1, rows)
                        options["last"] = round_ == 5
                    jobs.append((name, x, options))
    wanted = [make_fresh(nets[name])(x, **options) for name, x, options in jobs]
    order = np.random.default_rng(0).permutation(len(jobs) * 2) % len(jobs)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda i: nets[jobs[i][0]](jobs[i][1], **jobs[i][2]), order)
        for i, result in zip(order, found, strict=True):
            assert_same(result, wanted[i])
    for net in nets.values():
        assert len(net._calls) <= plans.KEPT_CALLS


def test_two_threads_never_share_a_kept_call() -> None:
    net, sizes = tr.GRU(6, 5), ((6,), 2, 4, 1)
    key, call = calls.prepared(net, net._levels, *sizes)
    again, other = calls.prepared(net, net._levels, *sizes)
    assert again == key and other is not call and other.parts[0] is not call.parts[0]
    net._calls.put(key, call)
    net._calls.put(again, other)
    assert calls.prepared(net, net._levels, *sizes)[1] is other and not net._calls


def test_a_kept_layout_is_laid_out_anew_after_a_change() -> None:
    x = tr.Input(6)
    h = tr.GRU(6, 5)(x)
    several = tr.Net(x, [h, tr.Linear(5, 3)(h) * 2])
    data = normal(4, 2, 6)
    for net in (tr.Sequential(tr.GRU(6, 5), tr.Linear(5, 6)), tr.Net(x, tr.Linear(5, 6)(h) + x), several):
        before = net(data)
        changed = tr.quantize(copy.deepcopy(net), "int8")
        net.initial_state = {name: np.ones((1, 5), np.float32) for name in net.stream().state}
        assert_same(net(data), make_fresh(net)(data))
        assert not np.array_equal(flat(net(data))[0], flat(before)[0])
        net.initial_state = None
        assert_same(net(data), before)
        assert_same(changed(data), make_fresh(changed)(data))
        net.train()
        net(data)
        net.eval()
        assert_same(net(data), before)


def test_kept_layouts_are_of_one_shape_each_and_bounded() -> None:
    rnn, lookup = tr.RNN(3, 4), tr.Sequential(tr.Embedding(5, 3), tr.RNN(3, 4, batch_first=True))
    for steps in range(1, 2 * plans.KEPT_SHAPES):
        assert rnn(normal(steps, 2, 3))[0].shape == (steps, 2, 4)
        assert lookup(np.zeros((2, steps), np.int64)).shape == (2, steps, 4)
        for net in (rnn, lookup):
            assert 0 < len(net._calls._inputs) <= plans.KEPT_SHAPES
    for _ in range(2):  # also when the shape was seen before
        with pytest.raises(tr.ShapeError, match="at least one step"):
            rnn(normal(0, 2, 3))
        with pytest.raises(tr.ShapeError, match="input_size"):
            rnn(normal(2, 4))
        with pytest.raises(TypeError, match="int"):
            lookup(normal(2, 5))
        with pytest.raises(IndexError, match="5"):
            lookup(np.full((2, 5), 5))
    assert rnn(normal(3, 0, 3))[0].shape == (3, 0, 4)


def make_fresh(net: tr.Net) -> tr.Net:
    """The same net with nothing kept."""
    return copy.deepcopy(net)


@pytest.mark.parametrize("threads", [1, 3])
def test_kept_calls_are_bounded(threads: int) -> None:
    net = tr.Sequential(tr.LSTM(16, 128), tr.Linear(128, 100))
    plain = tr.Linear(16, 4)
    for batch in (1, 3, 40):
        for steps in range(1, 90, 7):
            net(normal(steps, batch, 16), threads=threads)
            net(normal(steps, batch, 16), threads=threads, last=True)
            plain(normal(steps, batch, 16), threads=threads)
    for kept in (net._calls, plain._calls):
        assert 0 < len(kept) <= plans.KEPT_CALLS
        assert sum(call.nbytes for call in kept.values()) <= plans.KEPT_CALLS * plans.KEPT_BYTES
    assert plans.KEPT_CALLS * plans.KEPT_BYTES <= 2 << 20  # as `Net.__call__` says
    wide, x = tr.GRU(4, 64, 2, bidirectional=True), normal(2000, 1, 4)  # its scratch holds a whole sequence
    assert_same(wide(x), wide(x))
    assert not wide._calls


def test_memory_does_not_grow_with_the_number_of_shapes() -> None:
    net = tr.Sequential(tr.GRU(4, 8, bidirectional=True), tr.Linear(16, 3))

    def call(first: int, end: int) -> None:
        for batch in range(first, end):
            net(np.zeros((batch % 13 + 1, batch, 4), np.float32), threads=1 + batch % 2)

    call(1, 40)
    tracemalloc.start()
    try:
        call(1, 40)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            call(1, 40)
        assert tracemalloc.get_traced_memory()[0] - before < 1 << 14
    finally:
        tracemalloc.stop()


def test_copies_and_pickles_keep_nothing() -> None:
    net = tr.Sequential(tr.LSTM(6, 4), tr.Linear(4, 2))
    size = len(pickle.dumps(net))
    y = net(normal(5, 2, 6))
    for same in (copy.deepcopy(net), copy.copy(net), pickle.loads(pickle.dumps(net))):
        assert not same._calls
        assert_same(same(normal(5, 2, 6)), y)
    assert len(pickle.dumps(net)) == size


# ---- what changes a net ---------------------------------------------------------------------------


def test_new_weights_are_used() -> None:
    for make in [*NETS.values(), lambda: tr.LSTMCell(6, 4)]:
        net, other, x = make(), make(), normal(4, 6)
        net(x)
        net.load_state_dict(other.state_dict())
        assert_same(net(x), other(x))


@pytest.mark.parametrize("format", ["int8", "float16"])
def test_a_layer_that_is_reformatted_in_two_nets(format: str) -> None:
    shared, cell, linear = tr.GRU(6, 5), tr.GRUCell(6, 5), tr.Linear(5, 2)
    nets = [tr.Sequential(shared, tr.Linear(5, 3)), tr.Sequential(shared, linear), shared, cell, linear]
    inputs = [normal(4, 2, 6)] * 3 + [normal(2, 6), normal(2, 5)]
    for net, x in zip(nets, inputs, strict=True):
        net(x)
    for layer in (shared, cell, linear):
        weights = layer.state_dict()
        layer._reformat([format] * len(layer._cores()))
        layer.load_state_dict(weights)
    for net, x in zip(nets, inputs, strict=True):
        assert_same(net(x), make_fresh(net)(x))
        assert all(
            call.cores == [core for _, leaf in net._leaves() for core in leaf._cores()]
            for call in net._calls.values()
        )  # what was kept for the old ones is gone


def test_modes_and_instruction_sets_may_change_between_calls() -> None:
    net, x = tr.Sequential(tr.GRU(6, 5), tr.Dropout(0.5), tr.Linear(5, 2)), normal(4, 3, 6)
    y = net(x)
    net.train()(x)
    assert_same(net.eval()(x), y)
    used = tr.isa()
    try:
        for name in tr.available_isas():
            tr.set_isa(name)
            assert_same(net(x), make_fresh(net)(x))
    finally:
        tr.set_isa(used)
    assert_same(net(x), y)


def test_a_call_that_fails_leaves_the_net_as_it_was() -> None:
    net, x = tr.Sequential(tr.Embedding(9, 3), tr.LSTM(3, 4)), np.arange(8).reshape(4, 2)
    y = net(x)
    for wrong, error in (
        (lambda: net(x + 3), IndexError),
        (lambda: net(x, lengths=[5, 1]), ValueError),
        (lambda: net(x, state={"1.h": np.zeros(3)}), tr.ShapeError),
        (lambda: net(x, state={"h": np.zeros(3)}), KeyError),
        (lambda: net(x, threads=0), ValueError),
    ):
        with pytest.raises(error):
            wrong()
        assert_same(net(x), y)


# ---- last steps -----------------------------------------------------------------------------------

LAST = {name: make for name, make in NETS.items() if make()._recurrent} | {
    "nested": lambda: tr.Sequential(tr.Sequential(tr.GRU(6, 5), tr.Tanh()), tr.Sequential(tr.Linear(5, 2))),
    "frames": lambda: tr.Sequential(tr.LSTM(6, 4, batch_first=True), tr.Linear(4, 3), tr.LogSoftmax(-1)),
    "int8": lambda: tr.quantize(tr.Sequential(tr.LSTM(6, 4), tr.Linear(4, 3)), "int8"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LAST)
def test_last_is_each_rows_own_last_step(name: str, threads: int) -> None:
    net = LAST[name]()
    for lengths in (None, [5, 2, 3], [1, 1, 1]):
        x = normal(5, 3, 6)
        x = x.swapaxes(0, 1) if net._batch_first else x
        whole = net(x, lengths=lengths)
        found = net(x, lengths=lengths, threads=threads, last=True)
        y = flat(whole)[0]
        y = y if net._batch_first else y.swapaxes(0, 1)
        wanted = np.stack([row[(lengths or [5] * 3)[i] - 1] for i, row in enumerate(y)])
        assert_same(flat(found)[0], wanted)
        assert_same(tuple(flat(found)[1:]), tuple(flat(whole)[1:]))  # the state
        assert_same(tuple(net.last_state.values()), tuple(make_state(net, x, lengths).values()))
        one = net(x[0] if net._batch_first else x[:, 0], lengths=lengths and lengths[:1], last=True)
        assert_same(flat(one)[0], wanted[0])


def make_state(net: tr.Net, x: np.ndarray, lengths: Any) -> dict[str, np.ndarray]:
    fresh = make_fresh(net)
    fresh(x, lengths=lengths)
    return fresh.last_state


def test_the_head_runs_once_for_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tr.Sequential(tr.GRU(6, 5), tr.Linear(5, 1000))
    counts = []
    run_cores = calls.run_cores

    def counted(net: tr.Net, array: np.ndarray, *rest: Any) -> Any:
        counts.append(array.shape)
        return run_cores(net, array, *rest)

    monkeypatch.setattr(calls, "run_cores", counted)
    assert net(normal(50, 3, 6), last=True).shape == (3, 1000)
    assert counts == [(3, 5)]


@pytest.mark.parametrize("name", LAST)
def test_predict_last(name: str) -> None:
    net = LAST[name]()
    lengths = np.array([5, 2, 3, 1, 5, 4, 2])
    x = normal(7, 5, 6)
    whole = net.predict(x, 3, lengths=lengths)
    wanted = np.stack([row[end - 1] for row, end in zip(whole, lengths, strict=True)])
    assert_same(net.predict(x, 3, lengths=lengths, last=True), wanted)
    listed = [row[:end] for row, end in zip(x, lengths, strict=True)]
    assert_same(net.predict(listed, 2, threads=2, last=True), wanted)
    assert_same(net.predict(x, last=True), np.ascontiguousarray(net.predict(x)[:, -1]))


def test_predict_last_without_a_recurrent_layer() -> None:
    net, x, lengths = tr.Linear(6, 4), normal(4, 5, 6), [5, 1, 2, 3]
    wanted = np.stack([net(row[end - 1]) for row, end in zip(x, lengths, strict=True)])
    assert_same(net.predict(x, 3, lengths=lengths, last=True), wanted)


@pytest.mark.parametrize("make", [NETS["recurrent"], NETS["both"], NETS["GRU, both ways"]])
def test_evaluate_measures_what_predict_last_gives(make: Any) -> None:
    net = make()
    x, lengths = normal(40, 6, 6), np.random.default_rng(0).integers(1, 7, 40)
    y = net.predict(x, lengths=lengths, last=True)
    target = np.random.default_rng(1).integers(0, y.shape[1], 40)
    found = net.evaluate(x, target, loss="cross_entropy", metrics="accuracy", lengths=lengths)
    assert found["accuracy"] == np.mean(y.argmax(-1) == target)
    loss, _ = tr.CrossEntropyLoss()(y, target)
    assert found["loss"] == pytest.approx(float(loss), rel=1e-6)
    seen = []
    net.evaluate(
        x, target, loss="cross_entropy", metrics={"seen": lambda y, _: seen.append(y) or 0.0}, lengths=lengths
    )
    assert_same(seen[0], y)


def test_last_where_it_cannot_be() -> None:
    x = normal(5, 3, 6)
    for net in (tr.Linear(6, 4), tr.Sequential(tr.Linear(6, 4)), tr.Softmax(-1), tr.Flatten()):
        for options in ({"last": True}, {"lengths": [1, 2, 3]}, {"state": {"h": x}}):
            with pytest.raises(ValueError, match="got .*: no layer is recurrent"):
                net(x, **options)
            with pytest.raises(ValueError, match="got .*: no layer is recurrent"):
                net.train()(x, **options)
            net.eval()
        assert net(x, last=False, lengths=None, state=None).shape == net(x).shape
    for net in (tr.GRU(6, 4), tr.Sequential(tr.GRU(6, 4))):
        with pytest.raises(TypeError, match="last is 1, expected True or False"):
            net(x, last=1)
        with pytest.raises(ValueError, match="last=True in training mode, expected evaluation mode"):
            net.train()(x, last=True)
        assert net(x, last=False) is not None
    with pytest.raises(ValueError, match="last is True, expected False: the samples of x"):
        tr.Linear(6, 4).predict(x[0], last=True)
    with pytest.raises(TypeError, match="predict: last is 'yes'"):
        tr.GRU(6, 4).predict(x, last="yes")


# ---- nothing at all -------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [tr.RNN, tr.LSTM, tr.GRU])
def test_an_empty_batch_gives_an_empty_result(make: Any, threads: int) -> None:
    for options in ({}, {"bidirectional": True, "num_layers": 2}, {"batch_first": True}):
        net = make(3, 4, **options)
        ways = 2 if "bidirectional" in options else 1
        levels = ways * options.get("num_layers", 1)
        first = "batch_first" in options
        x = np.zeros((0, 5, 3) if first else (5, 0, 3), np.float32)
        y, state = net(x, threads=threads)
        assert y.shape == (*x.shape[:2], 4 * ways) and y.dtype == np.float32
        for part in flat(state):
            assert part.shape == (levels, 0, 4) and part.dtype == np.float32
        assert_same(net(x, state, lengths=[]), (y, state))
        assert_same(net(x, lengths=np.zeros(0, np.int32), threads=threads), (y, state))
        assert net(x, last=True)[0].shape == (0, 4 * ways)
        assert {part.shape for part in net.last_state.values()} == {(levels, 0, 4)}
        with pytest.raises(tr.ShapeError, match="initial state: h: got shape"):
            net(x, state={"h": np.zeros((levels, 1, 4))})
        with pytest.raises(tr.ShapeError, match=r"lengths has shape \(1,\), expected \(0,\)"):
            net(x, lengths=[1])
        net.train()
        with pytest.raises(tr.ShapeError, match="expected at least one step and one row"):
            net(x)


def test_an_empty_batch_of_every_kind_of_net() -> None:
    nothing = np.zeros((0, 3), np.float32)
    assert tr.LSTM(3, 4, proj_size=2)(np.zeros((5, 0, 3)))[1][0].shape == (1, 0, 2)
    for cell in (tr.RNNCell(3, 4), tr.LSTMCell(3, 4), tr.GRUCell(3, 4)):
        state = cell(nothing)
        assert [part.shape for part in flat(state)] == [(0, 4)] * len(flat(state))
        assert_same(cell(nothing, state), state)
        with pytest.raises(tr.ShapeError, match=r"state has shape \(1, 4\), expected \(0, 4\)"):
            cell(nothing, (np.zeros((1, 4)),) * 2 if isinstance(cell, tr.LSTMCell) else np.zeros((1, 4)))
        with pytest.raises(tr.ShapeError, match="expected at least one row in training mode"):
            cell.train()(nothing)
    net = tr.Sequential(tr.Embedding(5, 3), tr.GRU(3, 4), tr.Linear(4, 2))
    assert net(np.zeros((5, 0), int)).shape == (5, 0, 2)
    assert net(np.zeros((5, 0), int), lengths=[], last=True, threads=3).shape == (0, 2)
    conv = tr.Sequential(tr.Conv1d(3, 4, 2), tr.BatchNorm1d(4), tr.ReLU(), tr.Flatten(), tr.Linear(16, 2))
    assert conv(np.zeros((0, 3, 5)), threads=2).shape == (0, 2)
    assert tr.LayerNorm(3)(nothing).shape == tr.BatchNorm1d(3)(nothing).shape == (0, 3)
    assert tr.Softmax(-1)(nothing).shape == tr.Softmax(0)(nothing).shape == (0, 3)
    for net in (tr.Linear(3, 4), tr.BatchNorm1d(3)):
        with pytest.raises(tr.ShapeError, match="expected at least one step and one row"):
            net.train()(nothing)


def test_an_empty_frame_is_an_error_in_a_convolution() -> None:
    with pytest.raises(
        tr.ShapeError, match=r"Conv1d: input has shape \(2, 3, 0\), expected a frame that is not empty"
    ):
        tr.Conv1d(3, 4, 2, padding=2)(np.zeros((2, 3, 0)))
    assert tr.ReLU()(np.zeros((3, 0))).shape == (3, 0)


def test_predict_of_no_samples() -> None:
    net = tr.Sequential(tr.GRU(3, 4), tr.Linear(4, 2))
    assert net.predict(np.zeros((0, 5, 3))).shape == (0, 5, 2)
    assert net.predict(np.zeros((0, 5, 3)), lengths=[], last=True).shape == (0, 2)
    assert net.predict([]) == []
    assert net.predict([], last=True).shape == (0, 2)
    assert tr.Linear(3, 2).predict(np.zeros((0, 3))).shape == (0, 2)
    assert tr.Embedding(3, 2).predict(np.zeros(0, int)).shape == (0, 2)
    with pytest.raises(tr.ShapeError, match="predict: x"):
        net.predict(np.zeros((0, 5, 4)))
    for x in ([], np.zeros((0, 5, 3))):
        with pytest.raises(ValueError, match="evaluate: x: got no samples"):
            net.evaluate(x, np.zeros(0, int), loss="cross_entropy")
        with pytest.raises(ValueError, match="fit: x: got no samples"):
            net.fit(x, np.zeros(0, int), loss="cross_entropy")


def test_a_stream_needs_a_step() -> None:
    for batch in (1, 2):
        with pytest.raises(tr.ShapeError, match="x has 0 steps, expected 1"):
            tr.GRU(3, 4).stream(batch).run(np.zeros((0, batch, 3)))
    trainer = tr.GRU(3, 4)
    made = trainer.trainer(tr.optim.SGD(trainer, lr=0.1), tr.MSELoss(), batch=2, steps=5)
    with pytest.raises(tr.ShapeError, match="step: x has shape"):
        made.step(np.zeros((5, 0, 3)), np.zeros((5, 0, 4)))
    with pytest.raises(ValueError):
        made.evaluate(np.zeros((5, 0, 3)), np.zeros((5, 0, 4)))


# ---- PyTorch says the same ------------------------------------------------------------------------


def test_pytorch_on_empty_batches() -> None:
    torch = pytest.importorskip("torch")
    for kind in ("RNN", "LSTM", "GRU"):
        for options in ({}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2}):
            theirs, ours = getattr(torch.nn, kind)(3, 4, **options), getattr(tr, kind)(3, 4, **options)
            for shape in ((5, 0, 3), (0, 5, 3), (0, 0, 3), (0, 3)):
                try:
                    with torch.no_grad():
                        wanted = theirs(torch.zeros(shape))
                except RuntimeError:
                    with pytest.raises(tr.ShapeError, match="expected at least one step"):
                        ours(np.zeros(shape, np.float32))
                    continue
                shapes = [tuple(part.shape) for part in flat(wanted)]
                assert [part.shape for part in flat(ours(np.zeros(shape, np.float32)))] == shapes
        cell = getattr(torch.nn, kind + "Cell")(3, 4)
        shapes = [tuple(part.shape) for part in flat(cell(torch.zeros(0, 3)))]
        found = getattr(tr, kind + "Cell")(3, 4)(np.zeros((0, 3), np.float32))
        assert [part.shape for part in flat(found)] == shapes
