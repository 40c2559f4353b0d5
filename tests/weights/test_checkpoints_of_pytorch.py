"""Objects beside the weights in PyTorch's files, modules that were saved whole, and TorchScript."""

import io

import numpy as np
import pytest

from tinyrnn import cli
from tinyrnn.weights import inspect_file, load_weights

torch = pytest.importorskip("torch")
from checkpoint_objects import AttrDict, Speech, beside  # noqa: E402 - it needs torch

BESIDE = beside()
FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}


@pytest.fixture(params=FORMATS)
def saved(request, tmp_path):
    """Save in the format of today and in that from before 1.6."""

    def saved(thing, **more):
        torch.save(thing, tmp_path / "m.pt", **FORMATS[request.param], **more)
        return tmp_path / "m.pt"

    return saved


def same(got, want):
    """Equal names in equal order, equal numbers."""
    assert list(got) == list(want)
    for name, tensor in want.items():
        array = tensor.detach().numpy()
        assert got[name].shape == array.shape and np.array_equal(got[name], array), name


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", BESIDE)
def test_an_object_beside_the_weights_is_named_and_left(saved, capsys, kind, protocol):
    weights = torch.nn.LSTM(2, 3).state_dict()
    path = saved({"state_dict": weights, "epoch": 3, kind: BESIDE[kind]}, pickle_protocol=protocol)
    same(load_weights(path), weights)
    left = dict(inspect_file(path).unread)
    assert list(left) == ["epoch", kind] and left["epoch"] == "3"
    assert left[kind] and "\n" not in left[kind] and len(left[kind]) < 100
    assert cli.main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "left unread" in said and kind in said and "never be printed" not in said


def test_what_is_left_is_described(saved):
    path = saved({"model": {"w": torch.ones(2), "count": 3}, **BESIDE})
    left = dict(inspect_file(path).unread)
    for name, want in {
        "model.count": "3",
        "enum": "checkpoint_objects.Colour",
        "namespace": "argparse.Namespace",
        "reduced": "builtins.print",
        "optimizer": "torch.optim.adam.Adam",
        "optimizer state": "dict of 2",
        "tensors in a list": "list of 2",
        "rng state": "tensor",
        "none": "None",
        "huge": "int",
    }.items():
        assert left[name].replace("__builtin__", "builtins") == want


def test_a_dict_of_a_class_of_its_own_holds_weights(saved):
    weights = torch.nn.GRU(2, 3).state_dict()
    same(load_weights(saved({"state_dict": AttrDict(weights), "epoch": 1})), weights)
    same(load_weights(saved(AttrDict(weights))), weights)


def test_a_list_of_dicts(saved):
    one, other = torch.nn.GRU(2, 3).state_dict(), torch.nn.GRU(2, 3).state_dict()
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters()).state_dict()
    same(load_weights(saved((one, optimizer))), one)
    same(load_weights(saved([one, other]), key="1"), other)
    assert list(load_weights(saved([one, other]))) == [f"{i}.{name}" for i in (0, 1) for name in one]


# ---- modules


def test_a_module_saved_whole(saved):
    torch.manual_seed(1)
    model = Speech()
    same(load_weights(saved(model)), model.state_dict())
    same(load_weights(saved({"model": model, "loss": torch.nn.MSELoss()})), model.state_dict())
    same(load_weights(saved({"epoch": 1, "generator": model}), key="generator"), model.state_dict())
    wrapped = torch.nn.DataParallel(model)
    same(load_weights(saved(wrapped)), wrapped.state_dict())


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
        torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.GRU(3, 4), torch.nn.Linear(4, 2)),
        torch.nn.Sequential(),
    ],
)
def test_modules_of_pytorch(saved, module):
    if len(module.state_dict()):
        same(load_weights(saved(module)), module.state_dict())
    else:
        assert load_weights(saved(module)) == {}


def test_a_graph_module(saved):
    model = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
    same(load_weights(saved(model)), model.state_dict())


# ---- the format from before 1.6


def test_views_and_dtypes_of_the_old_format(tmp_path):
    base = torch.randn(6, 8)
    tensors = {
        "base": base,
        "tied": base,
        "transposed": base.t(),
        "row": base[3],
        "stepped": base[::2, 1::3],
        "expanded": base[0].expand(5, 8),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "count": torch.tensor(7),
        "bool": base > 0,
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    for protocol in (2, 3, 4, 5):
        torch.save(tensors, tmp_path / "m.pt", pickle_protocol=protocol, **FORMATS["legacy"])
        got = load_weights(tmp_path / "m.pt")
        want = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
        same(got, want)


def test_tensors_of_other_devices(tmp_path):
    """A file from a graphics card differs in the location, and in the class of its storages before 1.6."""
    weights = {"w": torch.arange(6.0)}
    for kind, more in FORMATS.items():
        file = io.BytesIO()
        torch.save(weights, file, **more)
        data = file.getvalue()
        assert b"X\3\0\0\0cpu" in data
        for device in ("cuda:0", "mps:0"):
            moved = data
            if kind == "legacy":
                size = len(device).to_bytes(4, "little")
                moved = moved.replace(b"X\3\0\0\0cpu", b"X" + size + device.encode())
                moved = moved.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage")
            else:  # in place: an archive's sizes stay
                moved = moved.replace(b"X\3\0\0\0cpu", b"X\3\0\0\0" + device[:3].encode())
            (tmp_path / "m.pt").write_bytes(moved if kind == "legacy" else without_checksums(moved))
            same(load_weights(tmp_path / "m.pt"), weights)


def without_checksums(data):
    """The archive with a checksum of 0, as PyTorch writes it on request, for its pickle."""
    out = bytearray(data)
    at = out.index(b"PK\1\2")
    assert out[at + 46 :].startswith(b"m/data.pkl") or b"data.pkl" in out[at : at + 80]
    out[at + 16 : at + 20] = bytes(4)
    return bytes(out)


# ---- TorchScript


class Streamed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(3, 4)
        self.cell = torch.nn.GRUCell(4, 4)
        self.register_buffer("window", torch.arange(4.0))
        self.sizes = [1, 2]

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.cell(y[0]) * self.window


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", ["script", "trace"])
def test_a_torchscript_archive(tmp_path, make):
    torch.manual_seed(1)
    model = Streamed().eval()
    script = torch.jit.script(model) if make == "script" else torch.jit.trace(model, torch.ones(5, 2, 3))
    script.save(str(tmp_path / "m.jit"))
    got = load_weights(tmp_path / "m.jit")
    got = {name: array for name, array in got.items() if not name.startswith("CONSTANTS.")}
    assert sorted(got) == sorted(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert np.array_equal(got[name], tensor.numpy())


@pytest.mark.filterwarnings("ignore")
def test_a_frozen_module_has_its_weights_among_the_constants(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4)).eval()
    torch.jit.freeze(torch.jit.script(model)).save(str(tmp_path / "m.jit"))
    got = load_weights(tmp_path / "m.jit")
    assert got and all(name.startswith("CONSTANTS.c") for name in got)
    want = {tensor.numpy().tobytes() for tensor in model.state_dict().values()}
    assert want <= {array.tobytes() for array in got.values()}
