"""`threads=`: a batch's rows shared among threads, the same bits."""

import os
import threading

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn.threads import run_all, split


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    net, x = tr.GRU(3, 4), numbers(5, 4, 3)
    wanted = net(x, threads=2)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(net(x, threads=2)[0], wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0
