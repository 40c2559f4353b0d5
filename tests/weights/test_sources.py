"""The contract of sources: a module and a line give weights to `load_weights` and a net to `load`."""

import sys
import types

import numpy as np
import pytest

import tinyrnn as tr
from tinyrnn import cli, weights
from tinyrnn.weights.spec import Contents, Source, Tensor


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A format of another module: the magic ``TOY``, then the one bias of a Linear layer."""
    module = types.ModuleType("toy_nets")

    def read(reader, key):
        def raw():
            bias = np.empty((1,), "<f4")
            reader.fill(3, bias, "bias")
            return bias

        return Contents([Tensor("bias", "float32", (1,), raw)], {}, net="a Linear layer")

    def build_net(file, scale=1.0):
        assert file.net == "a Linear layer"
        if scale <= 0:
            raise file.error(f"scale: got {scale}")
        net = tr.Sequential({"linear": tr.Linear(1, 1)})
        net.load_state_dict({"linear.weight": [[scale]], "linear.bias": file.weights()["bias"]})
        return net

    module.SOURCE = Source("Toy", (".toy",), lambda head: head[:3] == b"TOY", read, nets="toy_nets")
    module.build_net = build_net
    monkeypatch.setitem(sys.modules, "toy_nets", module)
    monkeypatch.setattr(weights, "SOURCES", (*weights.SOURCES, "toy_nets"))
    path = tmp_path / "net.toy"
    path.write_bytes(b"TOY" + np.float32(3).tobytes())
    return path


def test_a_source_gives_weights_and_a_net(toy):
    assert weights.load_weights(toy)["bias"] == 3
    assert weights.inspect_file(toy).format == "Toy"
    assert tr.load(toy)([[2.0]]) == 5 and tr.load(toy, scale=4.0)([[2.0]]) == 11
    with pytest.raises(tr.LoadError, match="net.toy: scale: got 0"):
        tr.load(toy, scale=0)
    with pytest.raises(TypeError, match="scales"):
        tr.load(toy, scales=2)


def test_the_command_line_takes_its_nets(toy, capsys):
    assert cli.main(["info", str(toy)]) == 0
    text = capsys.readouterr().out
    assert "a net in Toy" in text and "linear" in text and "memory of one stream" in text


def test_a_file_that_gives_no_net_says_so(tmp_path):
    np.savez(tmp_path / "w.npz", w=np.zeros(3))
    with pytest.raises(tr.LoadError, match="weights but no architecture"):
        tr.load(tmp_path / "w.npz")
