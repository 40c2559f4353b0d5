"""The pictures of docs/gallery.md: each example draws its own, and this makes the files small.

TINYRNN_DATA=... python docs/site/gallery.py              # all: a few minutes; writes docs/gallery/*.png
python docs/site/gallery.py shapes gradients              # some

Needs matplotlib, and what the examples need: scikit-learn, statsmodels, and Silero's files in TINYRNN_DATA.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "gallery"
WIDTH, MOST = 900, 60_000  # pixels, bytes

# By example: its script and arguments, with {out} for a folder, and the pictures that it leaves there.
COMMANDS = {
    "vad": (
        ["vad.py", "{data}/silero_vad_16k.pt", "{data}/speech_16k.wav", "--plot", "{out}/vad.png"],
        ["vad"],
    ),
    "shapes": (["shapes.py", "--plot", "{out}/shapes.png"], ["shapes"]),
    "gradients": (["gradients.py", "--out", "{out}"], ["gradients", "losses", "gates"]),
    "digits": (["digits.py", "--plot", "{out}/digits.png"], ["digits"]),
    "sunspots": (["sunspots.py", "--plot", "{out}/sunspots.png"], ["sunspots"]),
    "amp": (["amp.py", "--out", "{out}/amp.safetensors", "--plot", "{out}/amp.png"], ["amp"]),
    "dates": (
        ["dates.py", "--read", "3rd of March, 1994", "fri 13/10/23", "--align", "{out}/dates.png"],
        ["dates"],
    ),
}


def shrink(source: Path, target: Path) -> None:
    """Write a picture with fewer pixels and colours."""
    with Image.open(source) as picture:
        width = min(WIDTH, picture.width)
        size = (width, round(picture.height * width / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    for colours in (128, 64, 32, 16):
        small.quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size <= MOST:
            return
    raise SystemExit(f"{target.name}: got {target.stat().st_size} bytes, expected at most {MOST}")


def main(names: list[str]) -> None:
    """Run these examples, or all, and keep their pictures."""
    OUT.mkdir(exist_ok=True)
    for name in names or COMMANDS:
        command, pictures = COMMANDS[name]
        with tempfile.TemporaryDirectory() as out:
            words = [word.format(out=out, data=os.environ.get("TINYRNN_DATA", ".")) for word in command]
            subprocess.run([sys.executable, *words], cwd=ROOT / "examples" / name, check=True)
            for picture in pictures:
                shrink(Path(out, f"{picture}.png"), OUT / f"{picture}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
