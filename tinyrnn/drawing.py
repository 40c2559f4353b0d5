"""A net as a picture: boxes in layers from top to bottom, lines from values to those who read them; SVG."""

from __future__ import annotations

import os
import re
from html import escape
from itertools import pairwise
from typing import NamedTuple

from tinyrnn.contract import Module
from tinyrnn.files import replacing
from tinyrnn.outlines import Line, Outline, outline, shape_text
from tinyrnn.tensors import Frame

# Sizes in pixels; letters are as wide as those of most fonts.
_LETTER, _SMALL_LETTER = 7.9, 6.4
_HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _LANE = 42.0, 26.0, 46.0, 20.0, 16.0
_POINT = 10.0  # the width that a line takes where it crosses a level
_SWEEPS = 24  # of ordering, and of placing
_LONGEST = 44  # letters of a name that are shown

_STYLE = """
text { font-family: "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; fill: #1b1b1b; }
.name { font-size: 13px; text-anchor: middle; }
.kind { font-size: 10.5px; text-anchor: middle; fill: #555555; }
.frame { font-size: 10.5px; fill: #24507a; }
.once { fill: #a04a00; }
.note { font-size: 11px; fill: #555555; }
path { fill: none; stroke-width: 1.4; }
"""
_FILLS = {"input": "#dcefdc", "output": "#f3dfe9", "step": "#e8eff7", "once": "#fdeed8"}
_STROKES = {"step": "#4a7aa8", "once": "#c97a1e"}

# What XML 1.0 cannot hold.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Box(NamedTuple):
    """An input, a layer or an output.

    Attributes
    ----------
    name, kind : str
        The two lines written in it.
    look : {"input", "output", "step", "once"}
    reads : tuple of int
        The boxes whose values it reads.
    label : str
        The frame of its value; empty for an output.
    once : bool
        True for a value per sequence.
    """

    name: str
    kind: str
    look: str
    reads: tuple[int, ...]
    label: str
    once: bool

    @property
    def width(self) -> float:
        return max(64.0, 18 + max(_LETTER * len(self.name), _SMALL_LETTER * len(self.kind)))


def plot(net: Module, path: str | os.PathLike[str], frame: Frame | None = None) -> None:
    """Do the work of `Net.plot`."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in (".svg", b".svg"):
        raise ValueError(f"plot: got {os.fspath(path)!r}, expected a name that ends in .svg")
    text = picture(outline(net, frame))
    with replacing(path) as file:
        file.write(text.encode())


def picture(found: Outline) -> str:
    """The outline of a net as the text of an SVG file."""
    return _drawn(Layout(_boxes(found)))


def _boxes(found: Outline) -> list[Box]:
    """A box for each line, and one for each output."""
    axes = {line.time for line in found.lines} - {None}
    boxes = []
    for line in found.lines:
        label = shape_text(line.frame)
        if line.time is None:
            label += " once"
        elif len(axes) > 1:
            label += f" {line.time}"
        look = "input" if line.layer is None else "once" if line.time is None else "step"
        boxes.append(Box(_short(line.name), _kind(line), look, line.reads, label, line.time is None))
    for name, value in found.outputs.items():
        boxes.append(Box(_short(name), "output", "output", (value,), "", boxes[value].once))
    return boxes


def _kind(line: Line) -> str:
    if line.layer is None:
        return "input"
    return f"{line.kind}, the layer of {_short(line.same)}" if line.same else line.kind


def _short(name: str) -> str:
    """A name, its middle left out if it is very long."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-(_LONGEST // 2) + 1 :]}"


# ---- places ---------------------------------------------------------------------------------------------


class Layout:
    """Boxes by levels, and the points through which long lines cross them.

    A spot is a box, by its number, or such a point, by a number beyond those of the boxes.

    Attributes
    ----------
    levels : list of list of int
        The spots of each level from left to right.
    x : list of float
        The middle of each spot.
    paths : dict from (box, its reader) to list of int
        The spots that a line visits.
    back : list of (int, int)
        The lines from a box to a delay that stands above it.
    """

    def __init__(self, boxes: list[Box]) -> None:
        self.boxes = boxes
        self.widths = [box.width for box in boxes]
        self.below: list[list[int]] = [[] for _ in boxes]
        self.above: list[list[int]] = [[] for _ in boxes]
        self.paths: dict[tuple[int, int], list[int]] = {}
        self.back = [(read, i) for i, box in enumerate(boxes) for read in box.reads if read >= i]
        ranks = _ranks(boxes)
        self.levels: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
        for box, rank in enumerate(ranks):
            self.levels[rank].append(box)
        self._connect(ranks)
        self._order()
        self.x = self._places()

    def _connect(self, ranks: list[int]) -> None:
        """Make the points of lines that cross levels; lines of one value share them."""
        points: dict[tuple[int, int], int] = {}
        for reader, box in enumerate(self.boxes):
            for read in dict.fromkeys(box.reads):
                if read >= reader:
                    continue
                path = [read]
                for level in range(ranks[read] + 1, ranks[reader]):
                    if (read, level) not in points:
                        points[read, level] = len(self.widths)
                        self.levels[level].append(len(self.widths))
                        self.widths.append(_POINT)
                        self.below.append([])
                        self.above.append([])
                    path.append(points[read, level])
                path.append(reader)
                self.paths[read, reader] = path
                for one, other in pairwise(path):
                    if other not in self.below[one]:
                        self.below[one].append(other)
                        self.above[other].append(one)

    def _order(self) -> None:
        """Order each level by the barycentres of its neighbours, down and up; keep the best order."""
        best, fewest = [list(level) for level in self.levels], self.crossings()
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            neighbours = self.above if down else self.below
            for level in self.levels if down else reversed(self.levels):
                at = {spot: place for row in self.levels for place, spot in enumerate(row)}
                wanted = {}
                for spot in level:
                    places = [at[one] for one in neighbours[spot]] or [at[spot]]
                    wanted[spot] = sum(places) / len(places)
                level.sort(key=wanted.__getitem__)
            count = self.crossings()
            if count < fewest:
                best, fewest = [list(level) for level in self.levels], count
        self.levels = best

    def crossings(self) -> int:
        """Count the pairs of lines that cross between levels."""
        count = 0
        for upper, lower in pairwise(self.levels):
            at = {spot: place for place, spot in enumerate(lower)}
            ends = [place for spot in upper for place in sorted(at[other] for other in self.below[spot])]
            count += sum(one > other for i, one in enumerate(ends) for other in ends[i + 1 :])
        return count

    def _places(self) -> list[float]:
        """The middle of each spot, near those of its neighbours."""
        x = [0.0] * len(self.widths)
        for level in self.levels:
            for spot, place in zip(level, self._apart(level, [0.0] * len(level)), strict=True):
                x[spot] = place
        for sweep in range(4 * _SWEEPS):
            down = sweep % 2 == 0
            for level in self.levels if down else reversed(self.levels):
                wanted = []
                for spot in level:
                    near = self.above[spot] if down else self.below[spot]
                    near = near if sweep < 4 else self.above[spot] + self.below[spot]
                    places = [x[one] for one in near] or [x[spot]]
                    wanted.append(sum(places) / len(places))
                for spot, place in zip(level, self._apart(level, wanted), strict=True):
                    x[spot] = place
        left = min(place - width / 2 for place, width in zip(x, self.widths, strict=True))
        return [place - left for place in x]

    def _apart(self, level: list[int], wanted: list[float]) -> list[float]:
        """The places nearest to those wanted at which spots keep their order and do not overlap.

        That is isotonic regression of what is left of each wish when all spots before it have their room.
        """
        room = [0.0]
        for one, other in pairwise(level):
            room.append(room[-1] + (self.widths[one] + self.widths[other]) / 2 + _GAP_X)
        blocks: list[tuple[float, int]] = []  # (mean, count)
        for place, taken in zip(wanted, room, strict=True):
            blocks.append((place - taken, 1))
            while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
                (mean, count), (before, more) = blocks.pop(), blocks.pop()
                blocks.append(((mean * count + before * more) / (count + more), count + more))
        means = [mean for mean, count in blocks for _ in range(count)]
        return [mean + taken for mean, taken in zip(means, room, strict=True)]


def _ranks(boxes: list[Box]) -> list[int]:
    """The level of each box: one below the lowest that it reads; a delay that looks back goes down."""
    ranks: list[int] = []
    for i, box in enumerate(boxes):
        ranks.append(max((ranks[read] + 1 for read in box.reads if read < i), default=0))
    for i, box in enumerate(boxes):
        if box.reads and all(read >= i for read in box.reads):
            readers = [ranks[j] for j, other in enumerate(boxes) if i in other.reads and j > i]
            ranks[i] = max(ranks[i], min(readers, default=1) - 1)
    bottom = max(ranks)
    return [bottom if box.look == "output" else rank for box, rank in zip(boxes, ranks, strict=True)]


# ---- the file ---------------------------------------------------------------------------------------------


class _Sheet:
    """A layout upon its page: the place of each spot and label in pixels from the left and the top."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.boxes = layout, layout.boxes
        level_of = {spot: place for place, level in enumerate(layout.levels) for spot in level}
        self.top = _MARGIN + (_GAP_Y / 2 if any(level_of[box] == 0 for _, box in layout.back) else 0)
        self.y = [self.top + (_HEIGHT + _GAP_Y) * level_of[spot] for spot in range(len(layout.x))]
        self.labels = _labels(layout, self.y)
        self.shift = _MARGIN - min([0.0, *(label[0] for label in self.labels.values())])
        self.x = [place + self.shift for place in layout.x]
        self.right = self.shift + max(
            place + width / 2 for place, width in zip(layout.x, layout.widths, strict=True)
        )

    def line(self, read: int, reader: int) -> str:
        """The line from a box to one below it that reads its value, through the points between them."""
        x, y, path = self.x, self.y, self.layout.paths[read, reader]
        here, low = x[read], y[read] + _HEIGHT
        at = f"M{here:.1f},{low:.1f}"
        for spot in path[1:]:
            is_last = spot == reader
            there, high = (self._end(read, reader), y[spot] - 6) if is_last else (x[spot], y[spot])
            bend = (high - low) * 0.55
            at += f" C{here:.1f},{low + bend:.1f} {there:.1f},{high - bend:.1f} {there:.1f},{high:.1f}"
            here, low = there, y[spot] + _HEIGHT
            at += "" if is_last else f" V{low:.1f}"
        head = "once" if self.boxes[read].once else "step"
        return f'<path d="{at}" stroke="{_STROKES[head]}" marker-end="url(#{head})"/>'

    def _end(self, read: int, reader: int) -> float:
        """The place at which a line reaches its reader: those of all values that it reads, side by side."""
        box = self.boxes[reader]
        ends = [one for one in dict.fromkeys(box.reads) if one < reader]
        ends.sort(key=lambda one: self.layout.x[self.layout.paths[one, reader][-2]])
        spread = min(22.0, (box.width - 24) / max(1, len(ends)))
        return self.x[reader] + spread * (ends.index(read) - (len(ends) - 1) / 2)

    def feedback(self, lane: int, read: int, reader: int) -> str:
        """The dashed line from a box up to a delay above it, right of everything."""
        x, y = self.x, self.y
        aside = self.right + _LANE * (lane + 1)
        start, low = x[read] + 7, y[read] + _HEIGHT
        down = low + _GAP_Y * 0.3 + 3 * (lane % 4)
        up = y[reader] - _GAP_Y * 0.45 - 3 * (lane % 4)
        return (
            f'<path d="M{start:.1f},{low:.1f} V{down:.1f} H{aside:.1f} V{up:.1f} '
            f'H{x[reader]:.1f} V{y[reader] - 6:.1f}" stroke="{_STROKES["step"]}" stroke-dasharray="6 4" '
            'stroke-linejoin="round" marker-end="url(#step)"/>'
        )

    def label(self, i: int) -> str:
        """The shape of a box's value, upon a ground that lines shine through."""
        left, _, high, side = self.labels[i]
        look, anchor = "frame once" if self.boxes[i].once else "frame", "end" if side < 0 else "start"
        text = self.boxes[i].label
        return (
            f'<rect x="{left + self.shift:.1f}" y="{high:.1f}" width="{_SMALL_LETTER * len(text):.1f}" '
            f'height="13" fill="#ffffff" fill-opacity="0.8"/><text class="{look}" x="{self.x[i] + side:.1f}" '
            f'y="{high + 10:.1f}" text-anchor="{anchor}">{_legal(text)}</text>'
        )

    def width(self, notes: list[str]) -> float:
        return max(
            self.right + _MARGIN + _LANE * len(self.layout.back),
            2 * _MARGIN + 6.6 * max(map(len, notes)),
            *(label[1] + self.shift + _MARGIN / 2 for label in self.labels.values()),
        )

    @property
    def bottom(self) -> float:
        return self.top + (_HEIGHT + _GAP_Y) * len(self.layout.levels) - _GAP_Y + _MARGIN


def _drawn(layout: Layout) -> str:
    """The text of the file."""
    sheet = _Sheet(layout)
    notes = ["the shape of a value is beside its line"]
    notes += ["orange: once for a sequence"] if any(box.once for box in layout.boxes) else []
    notes += ["dashed: the value of steps before"] if layout.back else []
    width, bottom = sheet.width(notes), sheet.bottom
    height = bottom + 15 * len(notes) + 8
    back = sorted(layout.back, key=lambda pair: pair[0] - pair[1])  # the longest, outermost, last
    markers = [
        f'<marker id="{name}" viewBox="0 0 8 8" refX="2" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill: {stroke}"/></marker>'
        for name, stroke in _STROKES.items()
    ]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}">',
            f"<style>{_STYLE}</style>",
            f"<defs>{''.join(markers)}</defs>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *(sheet.line(read, reader) for read, reader in layout.paths),
            *(sheet.feedback(lane, *pair) for lane, pair in enumerate(back)),
            *(_box(box, sheet.x[i], sheet.y[i]) for i, box in enumerate(layout.boxes)),
            *map(sheet.label, sheet.labels),
            *(
                f'<text class="note" x="{_MARGIN}" y="{bottom + 15 * i + 10:.1f}">{_legal(note)}</text>'
                for i, note in enumerate(notes)
            ),
            "</svg>\n",
        ]
    )


# The left and the right end of a label, its height, and its side of the line that leaves its box.
_Label = tuple[float, float, float, int]


def _labels(layout: Layout, y: list[float]) -> dict[int, _Label]:
    """The places of the labels, none upon another: beside the line, else on its other side or lower."""
    found: dict[int, _Label] = {}
    for i, box in enumerate(layout.boxes):
        if box.label:
            x, wide = layout.x[i], _SMALL_LETTER * len(box.label)
            sides = (-8, 8) if _leans_right(layout, i) else (8, -8)
            places = [
                (x + side - wide * (side < 0), x + side + wide * (side > 0), y[i] + _HEIGHT + low, side)
                for low in (4, 18, 32)
                for side in sides
            ]
            free = [one for one in places if not any(_overlap(one, other) for other in found.values())]
            found[i] = (free or places)[0]
    return found


def _overlap(one: _Label, other: _Label) -> bool:
    return abs(one[2] - other[2]) < 13 and one[0] < other[1] and other[0] < one[1]


def _leans_right(layout: Layout, box: int) -> bool:
    """Tell whether the lines of a value leave its box to the right, so that its frame goes to the left."""
    others = layout.below[box]
    if any(read == box for read, _ in layout.back):
        return True
    return bool(others) and sum(layout.x[one] for one in others) / len(others) > layout.x[box] + 4


def _box(box: Box, x: float, y: float) -> str:
    corner = _HEIGHT / 2 if box.look in ("input", "output") else 5
    stroke = _STROKES["once" if box.once else "step"]
    return (
        f'<rect x="{x - box.width / 2:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{_HEIGHT:.0f}" '
        f'rx="{corner:.0f}" fill="{_FILLS[box.look]}" stroke="{stroke}"/>'
        f'<text class="name" x="{x:.1f}" y="{y + 18:.1f}">{_legal(box.name)}</text>'
        f'<text class="kind" x="{x:.1f}" y="{y + 33:.1f}">{_legal(box.kind)}</text>'
    )


def _legal(text: str) -> str:
    """Text as XML takes it."""
    return escape(_ILLEGAL.sub("\ufffd", text))
