"""Outlines drawn from one vector each: data, a few steps of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from example_scripts import example, torch_twin

outlines = example("shapes", "outlines")
shapes = example("shapes", "shapes")


def test_outlines_begin_above_and_close() -> None:
    assert outlines.OUTLINES.shape == (len(outlines.KINDS), outlines.POINTS, 2)
    np.testing.assert_allclose(outlines.OUTLINES[:, 0], outlines.OUTLINES[:, -1], atol=1e-6)
    assert (outlines.OUTLINES[:, 0, 1] > 0.2).all()
    x, y = np.moveaxis(outlines.OUTLINES, -1, 0)
    areas = (x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(1) / 2
    assert (areas > 0.5).all()  # all the same way round


def test_code_says_width_height_and_tilt() -> None:
    code = np.zeros((1, outlines.CODE), np.float32)
    code[0, 0] = 1  # a circle
    code[0, -3:] = 0.5, -0.5, 0
    points = outlines.draw_outlines(code)[:, 0]
    np.testing.assert_allclose(np.abs(points).max(0), [1.5, 0.5], rtol=5e-3)
    code[0, -1] = np.pi / 2
    np.testing.assert_allclose(
        outlines.draw_outlines(code)[:, 0], np.stack([-points[:, 1], points[:, 0]], 1), atol=1e-6
    )


def test_codes_follow_from_the_seed_and_stay_in_range() -> None:
    one, two = (outlines.draw_codes(200, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (one[:, : len(outlines.KINDS)].sum(1) == 1).all()
    assert np.abs(one[:, -3:-1]).max() <= 0.5 and np.abs(one[:, -1]).max() <= np.pi / 4


FEW_SHAPES = ["--steps", "3", "--batch", "8", "--hidden", "16", "--test", "20"]


def test_shapes_are_trained_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "shapes.png"
    shapes.main([*FEW_SHAPES, "--plot", str(picture)])
    assert "on 20 unseen vectors" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def test_shapes_are_learned() -> None:
    options = shapes.training_parser("").parse_args(["--steps", "200", "--hidden", "32"])
    losses = shapes.train(shapes.build(32, 0), options)
    assert np.mean(losses[-10:]) < 0.25 * losses[0]


def test_shapes_in_pytorch_have_the_same_losses(capsys: pytest.CaptureFixture[str]) -> None:
    twin = torch_twin("shapes", "shapes_torch")
    options = shapes.training_parser("").parse_args([*FEW_SHAPES, "--steps", "12"])
    mine = shapes.train(shapes.build(16, 0), options)
    theirs = twin.train(twin.build_same(16, 0), options)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    twin.main(FEW_SHAPES)
    assert "on 20 unseen vectors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden", "0"], "--hidden: got '0', expected a whole number from 1"),
        (["--plot", "absent/a.png"], "--plot: there is no folder absent"),
    ],
)
def test_shapes_refuse_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(SystemExit):
        shapes.main(arguments)
    assert message in capsys.readouterr().err
