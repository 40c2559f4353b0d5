"""The table, the text and the picture of a net."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from graph_nets import fed_back, residual

import tinyrnn as tr
from tinyrnn import drawing, outlines

SVG = "{http://www.w3.org/2000/svg}"


def spoken() -> tr.Net:
    """A value per sequence, and two outputs."""
    x, speaker = tr.Input(3, name="sound"), tr.Input(4, time=None, name="speaker")
    h = tr.GRU(3, 4)(x) * tr.Linear(4, 4)(speaker).named("gain")
    return tr.Net([x, speaker], {"h": h, "score": tr.Linear(4, 2)(h).named("head")})


def nested() -> tr.Net:
    x = tr.Input(4)
    block = tr.Net(x, x + tr.Linear(4, 4)(x))
    a, before = tr.Input(4), tr.Feedback(4)
    loop = tr.Tanh()(a + before).named("a<b>&c")
    before.connect(loop)
    chain = tr.Sequential(block, tr.Net(a, loop), tr.GRU(4, 2, bidirectional=True))
    z = tr.Input(4)
    return tr.Net(z, tr.Linear(4, 1)(chain(z)))


def large(blocks: int = 7) -> tr.Net:
    x = h = tr.Input(6)
    for i in range(blocks):
        gate = tr.Sigmoid()(tr.Linear(6, 6)(h).named(f"block{i}.gate"))
        h = h + tr.GRU(6, 6)(h).named(f"block{i}.rnn") * gate
    return tr.Net(x, h)


NETS: list[Callable[[], tr.Net]] = [residual, fed_back, spoken, nested, large]


@pytest.mark.parametrize("make", NETS)
def test_lines_are_the_layers_of_the_net(make: Callable[[], tr.Net]) -> None:
    net = make()
    found = outlines.outline(net)
    leaves = net._leaves()
    assert [line.layer for line in found.lines if line.layer is not None] == [leaf for _, leaf in leaves]
    assert [line.name for line in found.lines if line.layer is not None] == [
        prefix.removesuffix(".") for prefix, _ in leaves
    ]
    assert sum(line.parameters for line in found.lines) == net.num_parameters
    memory = sum({id(core): core.nbytes for _, leaf in leaves for core in leaf._cores()}.values())
    assert net.summary().nbytes == memory


@pytest.mark.parametrize("make", [residual, fed_back])
def test_frames_are_those_of_the_core(make: Callable[[], tr.Net]) -> None:
    net = make()
    cores, out_frames = net._ports_laid()
    found = outlines.outline(net)
    assert [found.lines[number].frame for number in found.outputs.values()] == out_frames
    assert [line.reads for line in found.lines if line.layer is not None] == cores.reads


def test_the_table() -> None:
    text = str(spoken().summary())
    assert text == repr(spoken().summary())
    assert text.splitlines()[2:9] == [
        "sound     input                (3,)    time",
        "speaker   input                (4,)    once",
        "gru       GRU       sound      (4,)    time         108  1,728",
        "gain      Linear    speaker    (4,)    once          20    320",
        "multiply  Multiply  gru, gain  (4,)    time",
        "head      Linear    multiply   (2,)    time          10    320",
        "-" * 62,
    ]
    assert re.search(r"^total +138 +2,368\noutputs: h = multiply, score = head$", text, re.M)


def test_tables_of_layers_and_chains() -> None:
    chain = tr.Sequential(tr.Conv1d(1, 2, 3), tr.Flatten(), tr.quantize(tr.LSTM(14, 4), "int8"))
    assert [row[3] for row in tr.Sequential(*list(chain)[:2]).summary().rows] == ["?"] * 3
    rows = chain.summary(frame=(1, 9)).rows
    assert [row[3] for row in rows] == ["(1, 9)", "(2, 7)", "(14,)", "(4,)"]
    assert rows[-1][:3] == ("2", "LSTM [int8]", "1")
    assert tr.LSTM(3, 4).summary().rows[1][:4] == ("LSTM", "LSTM", "x", "(4,)")
    with pytest.raises(tr.ShapeError, match="Linear"):
        tr.Linear(2, 3).summary(frame=(4,))
    for kind in ("Add", "Tanh", "Embedding", "LSTMCell"):
        net = {"Embedding": lambda: tr.Embedding(5, 3), "LSTMCell": lambda: tr.LSTMCell(2, 3)}
        assert str(net.get(kind, getattr(tr, kind))().summary())


def test_a_layer_that_is_used_twice_counts_once() -> None:
    x, shared = tr.Input(4), tr.Linear(4, 4)
    found = tr.Net(x, shared(tr.Tanh()(shared(x)))).summary()
    assert (found.parameters, [row[1] for row in found.rows]) == (
        20,
        ["input", "Linear", "Tanh", "Linear = linear"],
    )


def test_the_text() -> None:
    text = fed_back().describe()
    assert "It may stream" in text and "rnn" in text.split("State that streams keep:")[1].splitlines()[0]
    assert "In a loop, computed step by step: delay, concat, rnn, back; it goes back through delay." in text
    text = spoken().describe()
    assert "Once for a sequence, before its first step: gain." in text and "No layer is in a loop." in text
    text = nested().describe()
    assert "cannot stream:\n  sequential.2 (GRU): bidirectional" in text
    assert "sequential.1.a<b>&c; it goes back" in text
    source, target = tr.Input(3, time="source"), tr.Input(3, time="target")
    two = tr.Net([source, target], [tr.Tanh()(source), tr.Tanh()(target)])
    assert "It may stream by steps of 'source', where all steps of 'target' are given." in two.describe()
    read = tr.Net([source, target], [tr.Tanh()(source), tr.GRU(3, 2)(target)])
    assert "gru (GRU): runs over 'target', and steps are those of 'source'" in read.describe()


def test_values_of_the_whole_sequence() -> None:
    x = tr.Input(3)
    h = tr.GRU(3, 4)(x)
    end, mean = tr.FinalState()(h).named("end"), tr.MeanOverTime()(h).named("mean")
    net = tr.Net(x, tr.Linear(4, 2)(h + mean * end).named("head"))
    rows = {row[0]: row[3:5] for row in net.summary().rows}
    assert rows["end"] == rows["mean"] == rows["multiply"] == ("(4,)", "once")
    assert rows["add"] == ("(4,)", "time") and rows["head"] == ("(2,)", "time")
    text = net.describe()
    assert "Once for a sequence, of the steps so far: end, mean, multiply." in text
    assert "  add (Add): reads multiply, which is known at the end of the sequence" in text
    one = tr.Net(x, tr.Linear(4, 2)(mean))
    assert "It may stream" in one.describe() and one.summary().notes == ("outputs: linear",)


@pytest.mark.parametrize("make", NETS)
def test_pictures(make: Callable[[], tr.Net], tmp_path: Path) -> None:
    net = make()
    net.plot(tmp_path / "net.svg")
    root = ElementTree.parse(tmp_path / "net.svg").getroot()
    found = outlines.outline(net)
    names = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "name"]
    assert names == [line.name for line in found.lines] + list(found.outputs)
    paths = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    wanted = sum(len(set(line.reads)) for line in found.lines) + len(found.outputs)
    assert len(paths) == wanted
    dashed = [path for path in paths if path.get("stroke-dasharray")]
    assert len(dashed) == sum(found.is_feedback(i) for i in range(len(found.lines)))
    once = [path for path in paths if path.get("stroke") == "#c97a1e"]
    assert len(once) == sum(
        found.lines[read].time is None for line in found.lines for read in set(line.reads)
    )
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(
        0 <= float(n) <= max(width, height) for path in paths for n in re.findall(r"[\d.]+", path.get("d"))
    )


@pytest.mark.parametrize("make", NETS)
def test_boxes_do_not_overlap(make: Callable[[], tr.Net]) -> None:
    layout = drawing.Layout(drawing._boxes(outlines.outline(make())))
    for level in layout.levels:
        for one, other in pairwise(level):
            room = (layout.widths[one] + layout.widths[other]) / 2
            assert layout.x[other] - layout.x[one] >= room


@pytest.mark.parametrize("make", NETS)
def test_labels_lie_in_the_picture_and_not_upon_each_other(
    make: Callable[[], tr.Net], tmp_path: Path
) -> None:
    make().plot(tmp_path / "net.svg")
    root = ElementTree.parse(tmp_path / "net.svg").getroot()
    labels = [
        tuple(float(rect.get(name, 0)) for name in ("x", "y", "width"))
        for rect in root.iter(f"{SVG}rect")
        if rect.get("fill-opacity")
    ]
    assert labels
    for i, (x, y, width) in enumerate(labels):
        assert x >= 0 and x + width <= float(root.get("width", 0))
        for left, top, wide in labels[:i]:
            assert abs(y - top) >= 13 or x >= left + wide or left >= x + width


def test_labels_of_rates_are_long(tmp_path: Path) -> None:
    x = tr.Input(4)
    h = tr.TimeConv1d(4, 4, 3, stride=2, padding=1)(x)
    test_labels_lie_in_the_picture_and_not_upon_each_other(
        lambda: tr.Net(x, [tr.Tanh()(h), tr.ReLU()(h), tr.Exp()(h) + tr.Sign()(h)]), tmp_path
    )


def test_ordering_leaves_few_crossings() -> None:
    """Ladders can be drawn without a crossing, whatever the order in which their layers are made."""
    x = tr.Input(4)
    columns = [x] * 5
    for i in range(3):
        for place in (3, 0, 4, 2, 1):
            columns[place] = tr.Tanh()(columns[place]).named(f"{place}.{i}")
    net = tr.Net(x, {f"y{i}": value for i, value in enumerate(columns)})
    assert drawing.Layout(drawing._boxes(outlines.outline(net))).crossings() == 0


def test_names_cannot_break_a_picture(tmp_path: Path) -> None:
    x = tr.Input(4, name="\x00\ud800]]><script>")
    net = tr.Net(x, tr.Tanh()(x).named("long" * 100))
    net.plot(tmp_path / "net.svg")
    root = ElementTree.parse(tmp_path / "net.svg").getroot()
    assert not list(root.iter(f"{SVG}script"))
    assert all(len(text.text) < 60 for text in root.iter(f"{SVG}text"))


def test_files_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a name that ends in .svg"):
        residual().plot(tmp_path / "net.png")
    with pytest.raises(FileNotFoundError):
        residual().plot(tmp_path / "none" / "net.svg")
    assert not list(tmp_path.iterdir())


def test_a_feedback_of_another_rate_in_a_net_of_one_input() -> None:
    x = tr.Input(3)
    slow = tr.TimeConv1d(3, 3, 2, stride=2)(x)
    before = tr.Feedback(3, time=slow.time)
    before.connect(tr.Tanh()(slow + before))
    net = tr.Net(x, before.reads[0])
    assert "a frame for every 2 steps of 'time'" in net.describe()
