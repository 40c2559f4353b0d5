"""Names with the marks of PyTorch's wrappers, and files that are open already."""

import io
import zipfile

import numpy as np
import pytest
import weight_files as wf

import tinyrnn as tr
from tinyrnn import cli
from tinyrnn.state_dicts import unwrapped
from tinyrnn.weights import inspect_file, load_weights
from tinyrnn.weights.safetensors import save_safetensors


def net():
    return tr.Sequential({"rnn": tr.GRU(2, 3), "head": tr.Linear(3, 1)})


WRAPPED = {
    "module.": lambda name: "module." + name,
    "compiled": lambda name: "_orig_mod." + name,
    "both": lambda name: "module._orig_mod." + name,
    "the other way": lambda name: "_orig_mod.module." + name,
    "twice": lambda name: "module.module." + name,
    "a layer compiled": lambda name: name.replace("rnn.", "rnn._orig_mod."),
    "sharded": lambda name: "_fsdp_wrapped_module." + name.replace("rnn.", "rnn._fsdp_wrapped_module."),
    "checkpointed": lambda name: name.replace("head.", "head._checkpoint_wrapped_module."),
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("averaged", [False, True])
def test_a_net_loads_names_of_wrappers(kind, averaged):
    wrap, one, other = WRAPPED[kind], net(), net()
    state = {wrap(name): array for name, array in one.state_dict().items()}
    if averaged:  # torch.optim.swa_utils.AveragedModel
        state = {"n_averaged": np.array(3)} | {f"module.{name}": array for name, array in state.items()}
    assert other.load_state_dict(state) == ([], [])
    for name, array in one.state_dict().items():
        assert np.array_equal(other.state_dict()[name], array)
    rnn = tr.GRU.from_state_dict(state, prefix="rnn")
    assert np.array_equal(rnn.state_dict()["weight_hh_l0"], one.state_dict()["rnn.weight_hh_l0"])
    alone = {name: array for name, array in state.items() if "rnn" in name}
    tr.GRU(2, 3).load_state_dict(alone, prefix="rnn")


def test_the_nets_own_names_come_first():
    """A net may call a layer `module`, and names may differ in a wrapper alone."""
    inner = tr.Sequential({"module": tr.Linear(2, 3)})
    state = inner.state_dict()
    assert inner.load_state_dict(state) == ([], [])
    assert tr.Linear(2, 3).load_state_dict(state) == ([], [])
    both = {"a.w": 1, "a._orig_mod.w": 2}
    assert unwrapped(both) == both
    assert unwrapped({"module.w": 1, "v": 2}) == {"module.w": 1, "v": 2}
    assert unwrapped({"n_averaged": 1, "v": 2}) == {"n_averaged": 1, "v": 2}
    assert unwrapped({}) == {} and unwrapped({"module.": 1}) == {"": 1}


def test_other_prefixes_are_told():
    state = {f"model.{name}": array for name, array in net().state_dict().items()}
    with pytest.raises(tr.WeightsError, match=r"with a prefix: pass prefix='model\.'"):
        net().load_state_dict(state)


def test_info_tells_of_wrappers(tmp_path, capsys):
    save_safetensors(tmp_path / "a.safetensors", {"module.w": np.zeros(3)})
    save_safetensors(tmp_path / "b.safetensors", {"w": np.zeros(3)})
    for name in "ab":
        assert cli.main(["info", str(tmp_path / f"{name}.safetensors")]) == 0
        assert ("PyTorch's wrappers" in capsys.readouterr().out) == (name == "a")


# ---- open files


def test_open_files_are_read(tmp_path):
    one = net()
    path = tmp_path / "net.safetensors"
    one.save(path)
    data = path.read_bytes()
    with open(path, "rb") as file:
        file.seek(5)
        assert load_weights(file).keys() == one.state_dict().keys() and file.tell() == 5
        assert inspect_file(file).bytes == len(data) and not file.closed
    memory = io.BytesIO(data)
    assert np.array_equal(tr.load(memory)(np.ones((4, 2))), one(np.ones((4, 2)))) and not memory.closed
    six = np.arange(6, dtype=np.float32)
    for good in (
        wf.pt({"w": wf.tensor()}, {"0": six.tobytes()}),
        wf.npz(("w.npy", wf.npy(wf.npy_header(), six.tobytes()))),
    ):
        assert np.array_equal(load_weights(io.BytesIO(good))["w"].ravel(), six)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("net.safetensors", data)
    with zipfile.ZipFile(tmp_path / "outer.zip") as archive, archive.open("net.safetensors") as inner:
        assert load_weights(inner).keys() == one.state_dict().keys()


class Plain:
    """A file object with the three methods alone."""

    def __init__(self, data):
        self._file = io.BytesIO(data)
        self.read, self.seek, self.tell = self._file.read, self._file.seek, self._file.tell


def test_errors_of_open_files_name_them(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"what is this")
    with open(path, "rb") as file, pytest.raises(tr.LoadError, match=r"w\.bin: the content is unknown"):
        load_weights(file)
    with pytest.raises(tr.LoadError, match=r"<BytesIO>: the file is empty"):
        load_weights(io.BytesIO())
    with pytest.raises(ValueError, match=r"path: got embedded null.*io\.BytesIO"):
        tr.load(b"its\0content")
    with open(path) as file, pytest.raises(TypeError, match=r"w\.bin: is open as text.*'rb'"):
        load_weights(file)
    for wrong in (3, None, [b"x"]):
        with pytest.raises(TypeError, match="expected a path or an open binary file"):
            load_weights(wrong)
    one = net()
    one.save(tmp_path / "net.safetensors")
    data = (tmp_path / "net.safetensors").read_bytes()
    assert load_weights(Plain(data)).keys() == one.state_dict().keys()
    with pytest.raises(tr.LoadError, match="<Plain>"):
        load_weights(Plain(data[:-1]))
