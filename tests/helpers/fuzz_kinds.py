"""Kinds of files to fuzz, and what must hold of any bytes: an error that names the file, or a sound answer.

A kind is a format, or a part of one behind a sound shell: a plain mutation of a zip archive seldom comes past
its checksums. Every run begins with sound small files, which are made when it starts.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import weight_files as wf
from good_files import GOOD, LAYERS, MODELED, NET, SIX, THING, TRAINED, program_file, program_members
from mutations import in_archive, in_code, in_graph, in_json, in_words, mutated

import tinyrnn as tr
from tinyrnn.weights import inspect_file, load_weights
from tinyrnn.weights.spec import READ

SLOW = 5.0  # seconds of the processor that no file may take: none here is of 10 MB
MEMORY = 64 << 20  # bytes that each file may take, beyond twice its size
SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")  # whose own memory is no measure
_DATA = Path(__file__).parents[1] / "data"

Change = Callable[[random.Random, bytes, list[bytes]], bytes]


class Kind(NamedTuple):
    """Sound inputs, what makes a file of an input, and how inputs change."""

    seeds: Callable[[], list[bytes]]
    file: Callable[[bytes], bytes] = bytes
    net: bool = False
    change: Change = mutated
    needs: str = ""


@cache
def _saved() -> bytes:
    x = tr.Input(2)
    net = tr.Net(x, tr.Linear(3, 1)(tr.LSTM(2, 3)(x) + tr.Linear(2, 3)(x)))
    net.load_state_dict({name: np.full(w.shape, 0.5, w.dtype) for name, w in net.state_dict().items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        net.save(path)
        return path.read_bytes()


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _architecture() -> bytes:
    return _parts(_saved())[0]["__metadata__"]["tinyrnn"].encode()


def _described(text: bytes) -> bytes:
    """A net's file whose description is this."""
    header, numbers = _parts(_saved())
    header["__metadata__"] = {"tinyrnn": text.decode("utf-8", "replace")}
    return wf.safetensors(header, numbers)


def _graphs() -> list[bytes]:
    from good_graphs import good

    return list(good().values())


_LISTED = {
    "config": {
        "w": {
            "path_name": "weight_0",
            "use_pickle": False,
            "tensor_meta": {
                "dtype": 7,
                "sizes": [{"as_int": 2}, {"as_int": 3}],
                "strides": [{"as_int": 3}, {"as_int": 1}],
                "storage_offset": {"as_int": 0},
                "layout": 7,
            },
        }
    }
}


@cache
def _members() -> dict[str, bytes]:
    """The pickle and the storages of a file of quantised layers."""
    with zipfile.ZipFile(_DATA / "pytorch" / "packed.pt") as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _quantised(data: bytes) -> bytes:
    storages = {name[5:]: part for name, part in _members().items() if name.startswith("data/")}
    return wf.pt(data, storages)


def _scripts() -> list[bytes]:
    """Archives of TorchScript: a recorded one, and one whose tensors are constants, as of a frozen module."""
    module = wf.Ops(b"c__torch__\nNet\n)\x81" + wf.value({"training": False, "w": wf.tensor()}) + b"b")
    frozen = wf.zipped(
        wf.Member("m/data.pkl", wf.pickled(module)),
        wf.Member("m/data/0", SIX.tobytes()),
        wf.Member(
            "m/code/__torch__.py", b"class Net(Module):\n  def forward(self):\n    return CONSTANTS.c0"
        ),
        wf.Member("m/constants.pkl", wf.pickled((wf.tensor(), wf.tensor((6,))))),
        wf.Member("m/constants/0", SIX.tobytes()),
        wf.Member("m/version", b"2"),
    )
    return [*_recorded("pytorch/script.pt"), frozen]


def _code() -> bytes:
    """The code of a recorded archive of TorchScript, each file behind its name."""
    with zipfile.ZipFile(_DATA / "pytorch" / "script.pt") as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        return b"".join(b"# %b\n%b" % (name.encode(), archive.read(name)) for name in names)


# Code for the same weights, each line of which runs: PyTorch's own has many checks that do not.
_LIVE = b"""# script/code/__torch__.py
class Net(Module):
  __parameters__ = []
  training : bool
  rnn : __torch__.torch.nn.modules.rnn.GRU
  norm : __torch__.torch.nn.modules.batchnorm.BatchNorm1d
  head : __torch__.torch.nn.modules.linear.Linear
  def forward(self: __torch__.Net,
    x: Tensor) -> Dict[str, Tensor]:
    states, last, = (self.rnn).forward__0(x, )
    found = annotate(List[Tensor], [])
    i = 0
    while torch.lt(i, 2):
      _0 = torch.append(found, __torch__.scaled(states, i, ))
      i = torch.add(i, 1)
    total = found[0]
    for one in found:
      if torch.__is__(one, None):
        ops.prim.RaiseException("no tensor", "builtins.ValueError")
      else:
        total = torch.add(total, one)
    with torch.no_grad():
      y = (self.norm).forward(torch.select(last, 0, 0), )
    sizes = torch.list(torch.size(y))
    _1 = torch._set_item(sizes, 1, -1)
    return {"steps": (self.head).forward(total, ), "last": torch.view(y, sizes)}
def scaled(x: Tensor,
    times: int=1) -> Tensor:
  first, second, = torch.chunk(torch.cat([x, torch.neg(x)], -1), 2, -1)
  by = float(torch.add(times, 1)) if torch.gt(times, 0) else 0.5
  return torch.tanh(torch.mul(torch.sub(first, second), by))

# script/code/__torch__/torch/nn/modules/rnn.py
class GRU(Module):
  hidden_size : Final[int] = 3
  def forward__0(self: __torch__.torch.nn.modules.rnn.GRU,
    x: Tensor) -> Tuple[Tensor, Tensor]:
    h = torch.zeros([1, torch.size(x, 1), self.hidden_size], dtype=ops.prim.dtype(x), layout=None)
    weights = [self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0]
    a, b = torch.gru(x, h, weights, True, 1, 0., self.training, False, False)
    return (a, b)

# script/code/__torch__/torch/nn/modules/batchnorm.py
class BatchNorm1d(Module):
  eps : Final[float] = 1.0000000000000001e-05
  def forward(self: __torch__.torch.nn.modules.batchnorm.BatchNorm1d,
    x: Tensor) -> Tensor:
    mean, var, eps = self.running_mean, self.running_var, self.eps
    return torch.batch_norm(x, self.weight, self.bias, mean, var, False, 0.1, eps, True)

# script/code/__torch__/torch/nn/modules/linear.py
class Linear(Module):
  def forward(self: __torch__.torch.nn.modules.linear.Linear,
    x: Tensor) -> Tensor:
    return torch.linear(x, self.weight, self.bias)
"""


def _with_code(data: bytes) -> bytes:
    """The archive with other code."""
    files = {name: text for name, _, text in (part.partition(b"\n") for part in data.split(b"# script/")[1:])}
    with zipfile.ZipFile(_DATA / "pytorch" / "script.pt") as archive:
        old = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    own = {name: part for name, part in old.items() if not name.endswith(".py")}
    own |= {name.decode("utf-8", "replace"): text for name, text in files.items() if name not in own}
    return wf.zipped(*(wf.Member(f"script/{name}", part) for name, part in own.items()))


def _recorded(*names: str) -> list[bytes]:
    return [(_DATA / name).read_bytes() for name in names]


def _layered() -> bytes:
    """A file of Flax, whose layer has the parts of another layout."""
    return np.load(_DATA / "layouts.npz")["flax GRUCell/file"].tobytes()


def _models() -> list[bytes]:
    return _recorded("keras/stack.keras", "keras/coder.keras", "keras/words.keras")


KINDS = {
    "pt": Kind(lambda: [GOOD["pt"]]),
    "archive": Kind(
        lambda: [GOOD["pt"], *_recorded("pytorch/checkpoint.pt", "pytorch/folded.pt")], change=in_archive
    ),
    "script": Kind(_scripts, change=in_archive),
    "code": Kind(lambda: [_code(), _LIVE], _with_code, change=in_code, net=True),
    "pickle": Kind(
        lambda: [wf.pickled(thing) for thing in (THING, NET)], lambda data: wf.pt(data, {"0": SIX.tobytes()})
    ),
    "program": Kind(
        lambda: [json.dumps(_LISTED).encode()],
        lambda data: wf.zipped(
            wf.Member("m/data/weights/weight_0", SIX.tobytes()),
            wf.Member("m/data/weights/model_weights_config.json", data),
            wf.Member("m/archive_format", b"pt2"),
        ),
        change=in_json,
    ),
    "package": Kind(
        lambda: [wf.package({"a/net": NET, "a/b": {"w": wf.tensor()}})],
        change=in_archive,
    ),
    "exported": Kind(
        lambda: [program_members(name)["models/model.json"] for name in ("heads",)],
        lambda data: program_file("heads", data),
        change=in_json,
        net=True,
    ),
    "quantised": Kind(lambda: [_members()["data.pkl"]], _quantised),
    "legacy": Kind(lambda: [GOOD["pth"]]),
    "npz": Kind(lambda: [GOOD["npz"]], change=in_archive),
    "npy": Kind(
        lambda: [wf.npy(wf.npy_header(), SIX.tobytes())],
        lambda data: wf.npz(("w.npy", data), method=8 * (len(data) % 2)),
    ),
    "safetensors": Kind(lambda: [GOOD["safetensors"], _layered()]),
    "header": Kind(
        lambda: [GOOD["safetensors"][8:-24]],
        lambda data: wf.safetensors(data, SIX.tobytes()),
        change=in_json,
    ),
    "net": Kind(lambda: [_saved()], net=True),
    "architecture": Kind(lambda: [_architecture()], _described, net=True, change=in_json),
    "json": Kind(
        lambda: [json.dumps(one).encode() for one in (LAYERS, TRAINED, MODELED)],
        net=True,
        change=in_json,
    ),
    "onnx": Kind(_graphs, net=True, needs="onnx"),
    "graph": Kind(_graphs, net=True, change=in_graph, needs="onnx"),
    "keras": Kind(_models, net=True, change=in_archive),
    "hdf5": Kind(lambda: _recorded("keras/stack.h5", "keras/words.h5"), net=True, change=in_words),
}


def check(kind: Kind, data: bytes) -> bool:
    """Read a file in every way. True if it was sound; anything but a `LoadError` escapes."""
    content = kind.file(data)
    sound = [_answered(function, content) for function in (inspect_file, load_weights)]
    if None not in sound:
        names = {tensor.name: tensor.shape for tensor in sound[0].tensors}
        assert names == {name: array.shape for name, array in sound[1].items()}
        for array in sound[1].values():
            assert array.dtype in {np.dtype(target) for _, target in READ.values()}
            assert array.flags.c_contiguous and array.flags.writeable
    if kind.net:
        net = _answered(tr.load, content)
        sound.append(net)
        if net is not None:
            assert isinstance(net, tr.Net) and all(w.flags.c_contiguous for w in net.state_dict().values())
            _run(net)
    return None not in sound


def _answered(function: Callable, content: bytes):
    """Read a file within the bounds of time and memory; None is an error."""
    began, before = time.process_time(), _peak(begin=True)
    try:
        return function(io.BytesIO(content))
    except tr.LoadError as error:
        text = str(error)
        assert text.startswith("<BytesIO>: ") and len(text) < 3000, text
        assert text.replace("\n\t", "").isprintable(), text  # a list of tensors has lines
    finally:
        took, more = time.process_time() - began, _peak() - before
        assert took < SLOW, f"took {took} s"
        assert more <= MEMORY + 2 * len(content) or SANITIZED, f"took {more} bytes for {len(content)}"
    return None


def _peak(*, begin: bool = False) -> int:
    """The most bytes in memory so far, from ``begin`` on; 0 where the system does not tell."""
    try:
        if begin:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _run(net: tr.Net) -> None:
    """Run two steps, if the net is small and says of what."""
    ports = net._ports_known().values()
    frames = [frame for frame, _ in ports if frame is not None]
    if not frames or len(frames) < len(ports) or sum(map(math.prod, frames)) > 1 << 16:
        return
    given = [np.zeros(((2, 1) if time else (1,)) + frame, int) for frame, time in ports]  # or classes
    try:
        if net.memory().scratch < 64 << 20:
            net(*given)
    except ValueError:  # it needs more steps
        pass


def fuzz(
    kind: Kind,
    count: int,
    seed: int,
    begin: int = 0,
    last: Path | None = None,
    each: Callable[[], None] = lambda: None,
) -> int:
    """Check mutated files from number `begin` on, and return how many were still sound.

    `last` is a file that gets each input before it is read: it survives a crash. `each` is called before.
    """
    seeds, sound = kind.seeds(), 0
    for number in range(begin, begin + count):
        rng = random.Random(f"{seed}:{number}")
        data = kind.change(rng, rng.choice(seeds), seeds)
        if last is not None:
            last.write_bytes(data)
        each()
        try:
            sound += check(kind, data)
        except BaseException:
            print(f"number {number}, this input:", data, file=sys.stderr)
            raise
    return sound
