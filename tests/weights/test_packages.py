"""Files of `torch.package`: pickles that share storages, beside source code that is never run."""

import sys

import numpy as np
import pytest
import weight_files as wf
from good_files import NET, SIX, THING

import tinyrnn as tr
from tinyrnn.errors import LoadError
from tinyrnn.weights import inspect_file, load_weights


@pytest.fixture
def refused(tmp_path):
    def check(data, *words, key=None):
        path = tmp_path / "package.pt"
        path.write_bytes(data)
        with pytest.raises(LoadError) as info:
            load_weights(path, key)
        for word in ("package.pt", *words):
            assert word in str(info.value), info.value

    return check


def test_one_pickle_gives_its_own_names(tmp_path):
    path = tmp_path / "package.pt"
    path.write_bytes(wf.package({"model/model": THING}))
    got = load_weights(path)
    assert list(got) == ["w", "v", "e"] and np.array_equal(got["w"], SIX.reshape(2, 3))
    assert inspect_file(path).unread == [("model.model.epoch", "3"), ("model.model.s", "dict of 1")]
    assert list(load_weights(path, "model.model.state_dict")) == ["w", "v", "e"]


def test_several_pickles_give_dotted_names_or_are_chosen(tmp_path):
    path = tmp_path / "package.pt"
    path.write_bytes(wf.package({"a/net": NET, "a/state": {"w": wf.tensor()}}))
    assert list(load_weights(path)) == ["a.net.w", "a.net.inner.v", "a.state.w"]
    assert list(load_weights(path, "a.net")) == ["w", "inner.v"]
    path.write_bytes(wf.package({"a/net": NET, "a/more": {"names": ["x"]}}))
    assert list(load_weights(path)) == ["w", "inner.v"]
    assert inspect_file(path).unread == [("a.more", "dict of 1")]


def test_a_pickle_may_have_a_name_without_an_ending(tmp_path):
    path = tmp_path / "package.pt"
    members = [wf.Member("m/.data/extern_modules", b""), wf.Member("m/a/notes", b"a text")]
    storage = wf.Member("m/.data/0.storage", SIX.tobytes())
    path.write_bytes(wf.zipped(*members, storage, wf.Member("m/a/net", wf.pickled({"w": wf.tensor()}))))
    assert list(load_weights(path)) == ["w"]
    path.write_bytes(wf.zipped(*members))
    with pytest.raises(tr.LoadError, match="got a package without pickles, expected weights"):
        load_weights(path)


def test_a_call_that_the_package_would_make_is_not_made(tmp_path):
    path, kind = tmp_path / "package.pt", wf.Ops(b"cos\nsystem\n")
    reduced = wf.Ops(wf.value(("reduce_package", 1, kind, ("touch /tmp/x",))) + b"Q")
    path.write_bytes(wf.package({"a/net": {"w": wf.tensor(), "other": reduced}}))
    assert list(load_weights(path)) == ["w"]
    assert inspect_file(path).unread == [("a.net.other", "os.system")]


def test_hostile_packages(refused):
    refused(wf.package({"a/b": 3}), "holds no tensors", "a.b")
    refused(wf.package({"a/b": {"w": wf.tensor(key="7")}}), "w", "m/.data/7.storage", "is missing")
    refused(wf.package({"a/b": {"w": wf.tensor((7,))}}), "storage 0 has 24 bytes, expected 28")
    refused(wf.package({f"a/{i}": 3 for i in range(1001)}), "got a package of 1001 pickles")
    refused(wf.package({"a/b": {"w": wf.tensor()}}), "key: got 'c'", key="c")
    broken = wf.zipped(
        wf.Member("m/.data/extern_modules", b""), wf.Member("m/a/b.pkl", b"\x80\3cos\nsystem\n)R")
    )
    refused(broken, "a/b.pkl, byte", "more bytes")
    packed = wf.zipped(wf.Member("m/.data/extern_modules", b""), wf.Member("m/a\x01/b.pkl", b"", method=8))
    refused(packed, r"'a\x01/b.pkl': 'm/a\x01/b.pkl' is compressed, expected it stored")


def test_packages_of_pytorch(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from torch.package import PackageExporter

    (tmp_path / "own_model.py").write_text(
        "from torch import nn\n"
        "class Own(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.rnn, self.head = nn.LSTM(4, 8, 2), nn.Linear(8, 2)\n"
        "        self.register_buffer('mean', self.head.weight.detach()[0].half())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import own_model

    module, path = own_model.Own(), tmp_path / "m.pt"
    graph = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()))
    with pytest.warns(UserWarning), PackageExporter(str(path)) as exporter:
        exporter.intern("own_model")
        exporter.extern("torch.**")
        exporter.save_pickle("models", "own.pkl", module)
        exporter.save_pickle("models", "graph.pkl", graph)
        exporter.save_text("models", "about.txt", "own")
    del sys.modules["own_model"]
    got = load_weights(path, "models.own")
    assert list(got) == list(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert np.array_equal(got[name], tensor.float().numpy())
    assert tr.LSTM.from_state_dict(got, prefix="rnn").num_layers == 2
    assert list(load_weights(path, "models.graph")) == ["0.weight", "0.bias"]
    assert len(load_weights(path)) == len(got) + 2 and "own_model" not in sys.modules
