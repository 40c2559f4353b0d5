"""The folders of this repository, one home for their paths."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
TESTS = HELPERS.parent
DATA = TESTS / "data"  # what PyTorch computed, recorded
ROOT = TESTS.parent
BENCH = ROOT / "bench"
CSRC = ROOT / "csrc"
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
