"""The pictures of docs/learn: schemes of the cells, and one measurement.

python docs/site/pictures.py        # writes docs/learn/*.svg; needs matplotlib
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinyrnn as tr

OUT = Path(__file__).resolve().parents[1] / "learn"
TIMES = chr(215)
BLUE, RED, GREY, GREEN = "#2457a6", "#b3392f", "#444", "#2d7d46"


class Scheme:
    """A picture of boxes and arrows."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size = width, height
        self.title = title
        self.parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, text: str, colour: str = BLUE) -> None:
        """A box around its centre (x, y)."""
        self.parts.append(
            f'<rect x="{x - w / 2:g}" y="{y - h / 2:g}" width="{w:g}" height="{h:g}" rx="6" '
            f'fill="{colour}" fill-opacity=".12" stroke="{colour}"/>'
        )
        self.text(x, y, text, colour, edge=False)

    def ring(self, x: float, y: float, text: str) -> None:
        """An operation on numbers, one by one."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="13" fill="#fff" stroke="{RED}"/>')
        self.text(x, y, text, RED, edge=False)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = GREY,
        at: str = "middle",
        size: int = 15,
        edge: bool = True,
    ) -> None:
        """Words around (x, y), white around them; `h_t` has its index below the line."""
        white = ' stroke="#fff" stroke-width="4" paint-order="stroke"' if edge else ""
        if "_" in text:
            head, _, index = text.partition("_")
            text = f'{head}<tspan dy="4" font-size="{size - 4}">{index}</tspan>'
        self.parts.append(
            f'<text x="{x:g}" y="{y + 5:g}" text-anchor="{at}" fill="{colour}" '
            f'font-size="{size}"{white}>{text}</text>'
        )

    def line(
        self, *points: tuple[float, float], colour: str = GREY, arrow: bool = True, dash: bool = False
    ) -> None:
        """A line through points, with an arrow at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        head = f' marker-end="url(#{colour[1:]})"' if arrow else ""
        style = ' stroke-dasharray="5 4"' if dash else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{head}{style}/>'
        )

    def write(self, name: str) -> None:
        """Write the file."""
        width, height = self.size
        heads = "".join(
            f'<marker id="{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
            for colour in (BLUE, RED, GREY, GREEN)
        )
        text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="DejaVu Sans, Verdana, sans-serif" role="img">\n'
            f"<title>{self.title}</title>\n<defs>{heads}</defs>\n"
            f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )
        (OUT / name).write_text(text, encoding="utf-8")


def unrolled() -> None:
    """An RNN as a loop, the same over four steps, and the way of the gradient."""
    s = Scheme(720, 250, "An RNN as a loop, and unrolled over four steps")
    s.box(80, 120, 70, 50, "cell")
    s.line((80, 215), (80, 147))
    s.line((80, 95), (80, 42))
    s.line((115, 120), (150, 120), (150, 75), (30, 75), (30, 120), (43, 120))
    s.text(80, 230, "x_t")
    s.text(80, 28, "y_t")
    s.text(165, 97, "h_t")
    s.text(200, 121, "=", GREY, size=24)
    for i in range(4):
        x = 290 + 115 * i
        s.box(x, 120, 70, 50, "cell")
        s.line((x, 215), (x, 147))
        s.line((x, 95), (x, 42))
        s.line((x - 80, 120) if i else (x - 62, 120), (x - 37, 120))
        s.text(x, 230, f"x_{i + 1}")
        s.text(x, 28, f"y_{i + 1}")
        s.text(x - 55, 103, f"h_{i}", size=13)
        if i:
            s.line((x - 36, 160), (x - 79, 160), colour=RED, dash=True)
    s.text(462, 183, "the gradient goes back this way", RED, size=13)
    s.write("unrolled.svg")


def lstm() -> None:
    """The LSTM's cell."""
    s = Scheme(660, 330, "The cell of an LSTM")
    s.line((20, 70), (227, 70), colour=GREEN)
    s.line((253, 70), (407, 70), colour=GREEN)
    s.line((433, 70), (645, 70), colour=GREEN)
    s.text(20, 50, "c_t-1", GREEN, "start")
    s.text(640, 50, "c_t", GREEN, "end")
    s.ring(240, 70, TIMES)
    s.ring(420, 70, "+")
    for x, name in ((240, "f"), (340, "i"), (420, "g"), (510, "o")):
        s.box(x, 210, 50, 40, name, BLUE)
        s.line((x, 275), (x, 232))
    s.line((50, 275), (510, 275), arrow=False)
    s.text(50, 257, "h_t-1", GREY, "start")
    s.line((160, 315), (160, 275), arrow=False)
    s.text(178, 310, "x_t", GREY, "start")
    s.line((240, 190), (240, 85))
    s.text(222, 135, "keep", BLUE, "end", 13)
    s.ring(420, 140, TIMES)
    s.line((420, 190), (420, 155))
    s.line((420, 127), (420, 85))
    s.line((340, 190), (340, 140), (405, 140))
    s.text(328, 160, "write", BLUE, "end", 13)
    s.box(575, 110, 56, 32, "tanh", GREY)
    s.line((575, 70), (575, 92))
    s.ring(575, 165, TIMES)
    s.line((575, 126), (575, 150))
    s.line((510, 190), (510, 165), (560, 165))
    s.text(500, 150, "show", BLUE, "end", 13)
    s.line((575, 178), (575, 225), (645, 225))
    s.text(640, 243, "h_t", GREY, "end")
    s.write("lstm.svg")


def gru() -> None:
    """The GRU's cell."""
    s = Scheme(660, 290, "The cell of a GRU")
    s.line((20, 60), (417, 60), colour=GREEN)
    s.line((443, 60), (557, 60), colour=GREEN)
    s.line((583, 60), (645, 60), colour=GREEN)
    s.text(20, 40, "h_t-1", GREEN, "start")
    s.text(640, 40, "h_t", GREEN, "end")
    s.ring(430, 60, TIMES)
    s.ring(570, 60, "+")
    for x, name in ((150, "r"), (430, "z"), (300, "n")):
        s.box(x, 185, 50, 40, name, BLUE)
    s.line((150, 245), (150, 207))
    s.line((300, 228), (300, 207))
    s.text(318, 226, "x_t", GREY, "start", 13)
    s.line((430, 245), (430, 207))
    s.line((100, 60), (100, 245), (430, 245), arrow=False)
    s.line((60, 245), (100, 245), arrow=False)
    s.text(50, 245, "x_t", GREY, "end")
    s.ring(225, 185, TIMES)
    s.line((175, 185), (210, 185))
    s.line((225, 60), (225, 170))
    s.line((238, 185), (273, 185))
    s.text(150, 152, "forget for n", BLUE, "middle", 13)
    s.line((430, 165), (430, 75))
    s.text(418, 120, "keep z", BLUE, "end", 13)
    s.ring(570, 130, TIMES)
    s.line((570, 117), (570, 75))
    s.line((325, 185), (370, 185), (370, 225), (570, 225), (570, 145))
    s.line((455, 185), (510, 185), (510, 130), (555, 130))
    s.text(525, 113, "1 - z", BLUE, "end", 13)
    s.write("gru.svg")


def gradient() -> None:
    """The gradient by step, as docs/learn/rnn.md measures it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "tinyrnn", "font.size": 11}
    steps = 100
    x = np.random.default_rng(0).standard_normal((steps, 16, 4), dtype=np.float32)
    dy = np.zeros((steps, 16, 32), np.float32)
    dy[-1] = 1
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for label, net, colour in nets():
        (norms,) = tr.inspect.gradient_norms(net, x, dy=dy).norms.values()
        axes.semilogy(range(1, steps + 1, 3), norms[::3], label=label, color=colour)
    axes.set_xlabel("step t; the loss is at step 100")
    axes.set_ylabel("norm of dL/dh$_t$")
    axes.set_ylim(1e-20, 1e14)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, loc="upper center", ncols=2)
    figure.savefig(OUT / "gradient.svg", metadata={"Date": None, "Creator": None})


def nets() -> list[tuple[str, tr.Net, str]]:
    """The nets that are compared: as PyTorch begins them, but for what the label says."""
    tr.manual_seed(0)
    rnn, wild, plain, open_ = tr.RNN(4, 32), tr.RNN(4, 32), tr.LSTM(4, 32), tr.LSTM(4, 32)
    wild.weight_hh_l0 = 4 * rnn.weight_hh_l0
    bias = plain.bias_ih_l0.copy()
    bias[32:64] += 4
    open_.bias_ih_l0 = bias
    return [
        ("RNN", rnn, BLUE),
        ("RNN, recurrent weights x 4", wild, RED),
        ("LSTM", plain, GREY),
        ("LSTM, forget bias + 4", open_, GREEN),
    ]


if __name__ == "__main__":
    unrolled(), lstm(), gru(), gradient()
