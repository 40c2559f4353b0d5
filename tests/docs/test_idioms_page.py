"""docs/idioms.md: both columns of its first table are run, and give the same numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from folders import ROOT

import tinyrnn as tr

PAGE = (ROOT / "docs" / "idioms.md").read_text()
ROWS = re.findall(r"^\| `([^|]+)` \| `([^|]+)` \| [^|]*\|$", PAGE.partition("## Keras")[0], flags=re.M)
T, B = 11, 3


def layers(module: Any, conv: Any) -> dict[str, Any]:
    """The layers of the page, of PyTorch or of tinyrnn."""
    return {
        "lstm": module.LSTM(40, 64),
        "bi": module.LSTM(40, 32, bidirectional=True),
        "head": module.Linear(64, 10),
        "back": module.Linear(64, 40),
        "conv": conv(40, 8, 5, padding=2),
    }


def test_the_page_has_rows() -> None:
    assert len(ROWS) == 13


@pytest.mark.parametrize(("theirs", "ours"), ROWS, ids=[theirs for theirs, _ in ROWS])
def test_a_row(theirs: str, ours: str) -> None:
    torch = pytest.importorskip("torch")
    modules = layers(torch.nn, torch.nn.Conv1d)
    own = layers(tr, tr.TimeConv1d)
    if "flip" in theirs:  # the second direction's weights
        state = modules["bi"].state_dict()
        half = {name.removesuffix("_reverse"): one for name, one in state.items() if "reverse" in name}
        modules["lstm"] = torch.nn.LSTM(40, 32)
        modules["lstm"].load_state_dict(half)
    for name, layer in own.items():
        if "flip" not in theirs or name != "lstm":
            layer.load_state_dict({key: one.numpy() for key, one in modules[name].state_dict().items()})
    data = np.random.default_rng(0).standard_normal((T, B, 40)).astype(np.float32)
    with torch.no_grad():
        x = torch.from_numpy(data)
        (out, (h, _)), (out2, (h2, _)) = modules["lstm"](x), modules["bi"](x)
        wanted = eval(theirs, {"torch": torch, "x": x, "out": out, "out2": out2, "h": h, "h2": h2, **modules})
    x = tr.Input(40)
    values = {"x": x, "out": own["lstm"](x), "out2": own["bi"](x)}
    net = tr.Net(x, eval(ours, {"tr": tr, **values, **own}))
    found = net(data)
    for one, other in zip(
        found if isinstance(found, tuple) else (found,),
        wanted if isinstance(wanted, tuple) else (wanted,),
        strict=True,
    ):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-5)
