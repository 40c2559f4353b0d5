"""Eight threads on one net, one stream, one trainer: a call is whole, or refused.

A Python without a GIL runs them at once.
"""

import subprocess
import sys
import sysconfig
import threading
from collections import Counter

import numpy as np
import pytest

import tinyrnn as tr

THREADS = 8


@pytest.fixture(autouse=True)
def switching():
    """Have a Python with a GIL switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def together(work):
    """Call ``work(i)`` in eight threads that begin at once; what each returned. An error of any is raised."""
    barrier, results = threading.Barrier(THREADS), {}

    def attempt(i):
        barrier.wait()
        try:
            results[i] = work(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=attempt, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return [results[i] for i in range(THREADS)]


def unless_refused(call):
    """Return what a call returns; None if it says that another thread is inside."""
    try:
        return call()
    except RuntimeError as error:
        assert "another thread" in str(error)
        return None


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_an_import_leaves_the_gil_off():
    """Python turns it on for a module that does not say that it does without."""
    program = "import sys, tinyrnn, tinyrnn._training; tinyrnn.LSTM; sys.exit(sys._is_gil_enabled())"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_new_net_is_called(threads):
    """Its weights are drawn, and its layouts kept and thrown away, by whoever comes first."""
    inputs = [numbers(steps, 3, 5) for steps in range(1, 13)]
    for seed in range(4):
        made = []
        for _ in range(2):
            tr.manual_seed(seed)
            made.append(tr.Sequential(tr.LSTM(5, 17), tr.LayerNorm(17), tr.Linear(17, 4)))
        net, alone = made
        wanted = [alone(x) for x in inputs]

        def work(i, net=net, wanted=wanted):
            for turn in range(24):
                place = (turn * (i + 1)) % len(inputs)
                np.testing.assert_array_equal(net(inputs[place], threads=threads), wanted[place])

        together(work)


def test_one_net_is_streamed_while_it_is_called():
    net, x = tr.Sequential(tr.GRU(6, 20), tr.Linear(20, 2)), numbers(40, 1, 6)
    wanted = net(x)

    def work(i):
        for _ in range(10):
            if i % 2:
                np.testing.assert_array_equal(net(x), wanted)
            else:
                stream = net.stream()
                np.testing.assert_array_equal(np.stack([stream.step(frame) for frame in x]), wanted)

    together(work)


@pytest.mark.parametrize("hidden", [8, 200], ids=["a brief step", "a long step"])
def test_steps_of_one_stream_are_whole_or_refused(hidden):
    """Each step that was done is one of the steps of one thread; none was done twice, none is missing."""
    net, x = tr.LSTM(4, hidden), numbers(1, 4)
    stream = net.stream()
    results = together(lambda _: [unless_refused(lambda: stream.step(x).tobytes()) for _ in range(1000)])
    done = [y for ys in results for y in ys if y is not None]
    alone = net.stream()
    assert Counter(done) == Counter(alone.step(x).tobytes() for _ in done)
    assert stream.state.tobytes() == alone.state.tobytes()
    assert done


def rated():
    """A stream whose output has fewer steps than its input."""
    return tr.Sequential(tr.TimeUnfold(3, 2), tr.Flatten(), tr.GRU(12, 5)).stream(frame=(4,))


def stacked():
    """The stream of a net of two outputs."""
    x = tr.Input(4)
    h = tr.GRU(4, 5)(x)
    return tr.Net(x, [h, tr.Abs()(h)]).stream()


@pytest.mark.parametrize("make", [rated, stacked])
def test_runs_of_one_stream_are_whole_or_refused(make):
    """The frames that are due follow from the state, so they are counted while no other thread moves it."""
    stream, chunks = make(), [numbers(steps, 4) for steps in (1, 2, 3, 5, 7)]

    def work(i):
        done = Counter()
        for turn in range(200):
            place = (i + turn) % len(chunks)
            if unless_refused(lambda place=place: stream.run(chunks[place])) is not None:
                done[place] += 1
            due = unless_refused(stream.due)
            assert due is None or np.size(due)
        return done

    assert sum(together(work), Counter())
    state = unless_refused(lambda: stream.state.copy().numbers)
    assert np.isfinite(state).all()


def test_a_state_is_read_and_written_whole():
    stream = tr.LSTM(3, 400).stream()
    x = np.zeros((1, 3), np.float32)

    def work(i):
        values = {name: np.full((1, 1, 400), i, np.float32) for name in ("h", "c")}
        for turn in range(100):
            if i == 0:
                unless_refused(lambda: stream.step(x))
            elif turn % 3 == 0:
                unless_refused(lambda: setattr(stream, "state", values))
            elif turn % 3 == 1:
                unless_refused(lambda: stream.reset(state=values))
            else:
                copy = unless_refused(stream.copy)
                if copy is not None and np.ptp(copy.state["c"]) == 0:  # not after a step
                    assert copy.state["h"].max() == copy.state["c"].max()
            h = unless_refused(lambda: stream.state["h"])
            assert h is None or np.ptp(h) == 0 or (abs(h) < 1).all()  # written, or of a step

    together(work)


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_of_one_trainer_are_whole_or_refused(threads):
    """The steps that were done have the bits of that many in one thread."""
    x, y = numbers(9, 4, 6), numbers(9, 4, 3)

    def build():
        tr.manual_seed(3)
        net = tr.Sequential(tr.GRU(6, 24), tr.Linear(24, 3))
        return net, net.trainer(tr.optim.Adam(net), tr.MSELoss(), batch=4, steps=9, threads=threads)

    net, trainer = build()
    results = together(lambda _: [unless_refused(lambda: trainer.step(x, y)) for _ in range(40)])
    losses = [loss for found in results for loss in found if loss is not None]
    alone, other = build()
    assert sorted(losses) == sorted(other.step(x, y) for _ in losses)
    for name, tensor in alone.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[name], tensor)
    assert losses


def test_a_net_is_used_while_it_is_trained():
    """A call computes with some mixture of two updates; it never fails."""
    net = tr.Sequential(tr.GRU(6, 24), tr.Linear(24, 3))
    trainer = net.trainer(tr.optim.SGD(net), tr.MSELoss(), batch=4, steps=9)
    x, y = numbers(9, 4, 6), numbers(9, 4, 3)

    def work(i):
        for _ in range(50):
            if i % 2:
                unless_refused(lambda: trainer.step(x, y))
            else:
                assert np.isfinite(net(x)).all()
                assert len(net.state_dict()) == 6

    together(work)


def test_the_last_value_of_a_live_argument_counts():
    """Layouts take over what has changed, however many threads change it and use them."""
    net, x = tr.Sequential(tr.GRU(5, 17), tr.LayerNorm(17)), numbers(2, 3, 5)
    stream = net.stream(3)

    def work(i):
        for turn in range(60):
            net[1].eps = 1e-5 * (1 + i + turn)
            net(x)
            unless_refused(lambda: stream.step(x[0]))

    together(work)
    net[1].eps = 0.5
    other = tr.Sequential(net[0], tr.LayerNorm(17, eps=0.5))
    np.testing.assert_array_equal(net(x), other(x))
    stream.reset()
    np.testing.assert_array_equal(stream.step(x[0]), other.stream(3).step(x[0]))


def test_gradients_of_one_layer_are_made_once():
    """An optimiser points at them, so that all must get the same memory."""
    for _ in range(50):
        core = tr.Linear(40, 40)._cores()[0]
        found = together(lambda _, core=core: core.gradients())
        assert len({array.ctypes.data for array in found}) == 1
