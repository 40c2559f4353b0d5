"""Looking glasses: gradients through time against a float64 oracle and PyTorch, gates, curves, pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import oracle_gradients
import pytest
from gradient_nets import Case, alone, build, chain

import tinyrnn as tr

TOLERANCE = 2e-4  # of the largest entry, against float64


def random_net(seed: int) -> Case:
    return alone(seed) if seed % 2 else chain(seed)
