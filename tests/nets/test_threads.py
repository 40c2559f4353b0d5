"""`threads=`: a batch's rows shared among threads, the same bits."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn._core import run_all
from tinyrnn.threads import split
from tinyrnn.training import guard

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
forking = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


NETS = {
    "lstm": lambda: tr.Sequential(tr.LSTM(5, 18, num_layers=2), tr.Linear(18, 3)),
    "gru, projected lstm": lambda: tr.Sequential(tr.GRU(5, 33), tr.LSTM(33, 20, proj_size=7)),
    "norms": lambda: tr.Sequential(tr.Linear(5, 17), tr.LayerNorm(17), tr.RNN(17, 9), tr.Softmax(-1)),
}


@pytest.mark.parametrize("threads", [2, 3, 7, 50])
@pytest.mark.parametrize("name", NETS)
def test_streams_share_rows_with_the_same_bits(name, threads):
    net, x = NETS[name](), numbers(9, 7, 5)
    one, many = net.stream(7), net.stream(7, threads=threads)
    for chunk in (x[:4], x[4:5], x[5:]):
        np.testing.assert_array_equal(one.run(chunk), many.run(chunk))
    np.testing.assert_array_equal(one.step(x[0]), many.step(x[0]))
    assert one.state.tobytes() == many.state.tobytes()
    fork = many.copy()
    np.testing.assert_array_equal(one.run(x), fork.run(x))


@pytest.mark.parametrize("threads", [2, 7])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_calls_share_rows_with_the_same_bits(bidirectional, threads):
    net = tr.LSTM(5, 18, 2, bidirectional=bidirectional)
    x, lengths = numbers(100, 7, 5), [100, 3, 40, 100, 1, 65, 99]
    for given in (None, lengths):
        (a, (h, c)), (b, (i, d)) = net(x, lengths=given), net(x, lengths=given, threads=threads)
        for one, other in ((a, b), (h, i), (c, d)):
            np.testing.assert_array_equal(one, other)


def test_an_embedding_shares_rows():
    net = tr.Sequential(tr.Embedding(11, 6), tr.GRU(6, 8))
    x = np.random.default_rng(0).integers(0, 11, (20, 5))
    np.testing.assert_array_equal(net(x), net(x, threads=3))
    with pytest.raises(IndexError, match="11"):
        net.stream(5, threads=2).run(x + 1)


def test_frames_are_shared_where_none_depends_on_another():
    net, x = tr.Sequential(tr.Linear(5, 40), tr.Tanh()), numbers(301, 5)
    np.testing.assert_array_equal(net(x), net(x, threads=2))
    np.testing.assert_array_equal(net[0](x), net[0](x, threads=4))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_bad_number_of_threads_is_named(threads):
    net = tr.LSTM(3, 4)
    for call in (lambda: net.stream(2, threads=threads), lambda: net(numbers(2, 2, 3), threads=threads)):
        with pytest.raises((TypeError, ValueError), match="threads"):
            call()


def test_parts_are_even_and_complete():
    assert split(32, 2) == [(0, 16), (16, 16)]
    assert split(7, 3) == [(0, 2), (2, 2), (4, 3)]
    assert split(2, 5) == [(0, 1), (1, 1)]


def test_tasks_run_at_once_and_an_error_waits_for_the_others():
    meet, done = threading.Barrier(3, timeout=30), []

    def task(i):
        meet.wait()
        done.append(i)
        if i == 1:
            raise OSError("of task 1")

    with pytest.raises(OSError, match="of task 1"):
        run_all([lambda i=i: task(i) for i in range(3)])
    assert sorted(done) == [0, 1, 2]


# ---- forks --------------------------------------------------------------------------------------


def in_child(work):
    """Tell whether ``work`` returns something true in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@needs_fork
@forking
def test_a_forked_child_has_threads_of_its_own():
    net, x = tr.GRU(3, 4), numbers(5, 4, 3)
    wanted = net(x, threads=2)[0]
    assert in_child(lambda: np.array_equal(net(x, threads=2)[0], wanted))


def refused(call):
    """Tell whether a call finds another thread inside."""
    try:
        call()
    except RuntimeError as error:
        return "another thread" in str(error)
    return False


def child_of_a_busy_parent(work, enter, child):
    """Fork a child while a thread is inside of ``work``, where ``enter`` is refused.

    Tells whether ``child`` returned something true in that child.
    """
    stop = threading.Event()

    def loop():
        while not stop.is_set():
            work()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for _ in range(50):  # the thread may come out between the look and the fork
            while not refused(enter):
                pass
            if in_child(child):
                return True
        return False
    finally:
        stop.set()
        thread.join()


def lstm_graph():
    """An LSTM with a second output, so that its stream is a `GraphStream`."""
    x = tr.Input(16)
    h = tr.LSTM(16, 64)(x)
    return tr.Net(x, [h, tr.Abs()(h)])


@needs_fork
@forking
@pytest.mark.parametrize("make", [lambda: tr.LSTM(16, 64), lstm_graph], ids=["layer", "graph"])
def test_a_child_can_use_a_stream_that_a_thread_of_its_parent_is_inside_of(make):
    """The mark of use is a thread's that the child does not have."""
    net = make()
    stream, x = net.stream(), numbers(20000, 16)
    wanted = net.stream().run(x[:5])

    def child():
        with pytest.raises(RuntimeError, match=r"forked while a thread .* call reset\(\) or set the state"):
            stream.step(x[0])
        stream.state = net.stream().state
        if not np.array_equal(stream.run(x[:5]), wanted):
            return False
        stream.reset()
        return np.array_equal(stream.copy().run(x[:5]), wanted)

    assert child_of_a_busy_parent(lambda: stream.run(x), lambda: stream.idle("test"), child)


@needs_fork
@forking
def test_a_child_can_train_a_net_that_a_thread_of_its_parent_trains():
    net = tr.Sequential(tr.GRU(8, 32), tr.Linear(32, 3))
    trainer = net.trainer(tr.optim.SGD(net), tr.MSELoss(), batch=8, steps=200)
    x, y = numbers(200, 8, 8), numbers(200, 8, 3)
    enter = guard(net).__enter__

    def inside():
        enter()
        guard(net).__exit__(None, None, None)

    assert child_of_a_busy_parent(lambda: trainer.step(x, y), inside, lambda: np.isfinite(trainer.step(x, y)))


# ---- objects that threads share -----------------------------------------------------------------


def together(count, work):
    """Run the same in ``count`` threads, and return the errors that they raise."""

    def attempt(i):
        try:
            work(i)
        except Exception as error:
            return error
        return None

    with ThreadPoolExecutor(count) as pool:
        return [error for error in pool.map(attempt, range(count)) if error is not None]


def only_refusals(errors):
    return all(isinstance(error, RuntimeError) and "another thread" in str(error) for error in errors)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trainer_refuses_a_second_thread(threads):
    """Its tape is laid out once: two steps at a time would write to the same places."""
    net = tr.Sequential(tr.GRU(8, 32), tr.Dropout(0.1), tr.Linear(32, 5))
    trainer = net.trainer(tr.optim.Adam(net), tr.CrossEntropyLoss(), batch=8, steps=50, threads=threads)
    x, y = numbers(50, 8, 8), np.random.default_rng(0).integers(0, 5, (50, 8))

    def work(_):
        for _ in range(40):
            trainer.step(x, y)

    assert only_refusals(together(4, work))
    assert np.isfinite(trainer.step(x, y))


def test_two_trainers_of_one_net_or_one_optimizer_refuse_to_step_at_a_time():
    net = tr.GRU(8, 32)
    optimizer = tr.optim.Adam(net)
    trainers = [net.trainer(optimizer, tr.MSELoss(), batch=4, steps=50) for _ in range(2)]
    x, y = numbers(50, 4, 8), numbers(50, 4, 32)

    def work(i):
        for _ in range(40):
            trainers[i].step(x, y)
            optimizer.state_dict()
            optimizer.zero_grad()

    assert only_refusals(together(2, work))


def test_a_net_that_is_trained_by_hand_refuses_a_second_thread():
    """It has one tape. Freezing lays the optimiser's tensors out anew, even during a step."""
    net = tr.Sequential(tr.LSTM(8, 32), tr.Linear(32, 5)).train()
    optimizer = tr.optim.Adam(net)
    x = numbers(50, 8, 8)

    def work(i):
        for _ in range(20):
            with suppress(RuntimeError, tr.ShapeError):  # of another thread, or its pass
                net.backward(net(x[: 10 + 5 * i], lengths=[10] * 8))
            (net.freeze if i % 2 else net.unfreeze)("0")
            optimizer.step("skip")
            optimizer.zero_grad()

    assert only_refusals(together(8, work))
    assert np.isfinite(net(x)).all()


def test_nets_and_losses_in_use_are_shared_freely():
    """A net without a tape has its memory for each call."""
    net = tr.Sequential(tr.GRU(8, 32), tr.Linear(32, 5))
    loss, x, y = tr.CrossEntropyLoss(), numbers(30, 4, 8), np.random.default_rng(0).integers(0, 5, (30, 4))
    wanted = net(x)

    def work(_):
        for _ in range(30):
            np.testing.assert_array_equal(net(x), wanted)
            assert loss(wanted, y)[0] == loss(wanted, y)[0]

    assert not together(4, work)


# ---- arrays that change while the core reads them -----------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_indices_that_another_thread_writes_to_are_never_followed(threads):
    """The core checks indices, then looks them up, and the GIL is released in between.

    The result is unspecified. No number outside the table is read, none outside the gradients is written.
    """
    wild = np.iinfo(np.int32).max
    net = tr.Sequential(tr.Embedding(50, 8), tr.GRU(8, 4), tr.Linear(4, 50))
    trainer = net.trainer(
        tr.optim.SGD(net), tr.CrossEntropyLoss(), batch=4, steps=500, threads=threads, nonfinite="skip"
    )
    ctc = tr.CTCLoss()
    stream = net.stream(4, threads=threads)
    good = np.random.default_rng(0).integers(1, 50, (500, 4)).astype(np.int32)
    index, ends, counts = good.copy(), np.full(4, 500, np.int32), np.full(4, 9, np.int32)
    labels = np.ascontiguousarray(good[:9].T)
    log_p = np.full((500, 4, 50), -np.log(50), np.float32)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for array, value in ((index, wild), (index, good), (ends, wild), (ends, 500), (counts, wild)):
                array[:] = value
            labels[:] = wild
            labels[:], counts[:] = good[:9].T, 9

    writer = threading.Thread(target=write)
    writer.start()
    calls = [
        lambda: stream.run(index),
        lambda: net(index, lengths=ends, threads=threads),
        lambda: trainer.step(index, good, ends),
        lambda: trainer.step(good, index),
        lambda: ctc(log_p, (labels, counts), ends),
    ]
    for _ in range(30):
        for call in calls:
            with suppress(IndexError, ValueError):
                call()
    stop.set()
    writer.join()


# ---- signals ------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, numpy as np, tinyrnn as tr
what, threads = sys.argv[1], int(sys.argv[2])
x = np.zeros((50000, 4, 32), np.float32)
net = tr.Sequential(tr.LSTM(32, 64), tr.Linear(64, 2))
stream, y = net.stream(4, threads=threads), np.zeros((500, 4, 2), np.float32)
trainer = net.trainer(tr.optim.SGD(net), tr.MSELoss(), batch=4, steps=500, threads=threads)
before = stream.state.tobytes()
try:
    print("ready", flush=True)
    while True:
        if what == "run":
            before = stream.state.tobytes()
            stream.run(x)
        elif what == "call":
            net(x, threads=threads)
        else:
            trainer.step(x[:500], y)
except KeyboardInterrupt:
    if stream.state.tobytes() != before:  # then the interrupt came between two runs
        ran = net.stream(4)
        ran.state = before
        ran.run(x)
        assert stream.state.tobytes() == ran.state.tobytes()
    stream.run(x[:3])
    trainer.step(x[:500], y)
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="no signals")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("what", ["run", "call", "step"])
def test_ctrl_c_ends_a_call_at_once_and_leaves_what_it_had(what, threads):
    """An interrupt that came as a queue's item was taken lost the item, and nothing ended a long run."""
    for attempt in range(4):
        command = [sys.executable, "-c", INTERRUPTED, what, str(threads)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            if attempt:
                threading.Event().wait(0.02 * attempt)
            child.send_signal(signal.SIGINT)
            try:
                out, _ = child.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                child.kill()
                pytest.fail("hangs")
            assert (out, child.returncode) == ("interrupted\n", 0)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("nonfinite", [None, "stop", "skip"])
def test_an_exception_of_a_signal_handler_ends_a_run_and_keeps_the_state(nonfinite, threads):
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    net = tr.Sequential(tr.LSTM(32, 128), tr.RNN(128, 128, nonlinearity="relu"))
    stream = net.stream(4, threads=threads, nonfinite=nonfinite)
    x = numbers(100, 4, 32) * np.float32(1e-3)
    stream.run(x)
    before = stream.state.tobytes()
    old = signal.signal(signal.SIGALRM, ring)
    try:
        long = np.broadcast_to(x[:1], (200000, 4, 32)).copy()  # seconds of work
        with pytest.raises(Alarm):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            stream.run(long)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert stream.state.tobytes() == before
    assert stream.run(x).shape == (100, 4, 128)


def test_a_wrong_index_in_one_threads_rows_leaves_the_others_rows_as_they_were():
    stream = tr.Sequential(tr.Embedding(9, 4), tr.GRU(4, 5)).stream(4, threads=2)
    x = np.ones((3, 4), np.int32)
    stream.run(x)
    before = stream.state.tobytes()
    x[1, 3] = 9
    with pytest.raises(IndexError):
        stream.run(x)
    assert stream.state.tobytes() == before
