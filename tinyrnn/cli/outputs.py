"""Outputs of `tinyrnn run`: .npy and .csv."""

from __future__ import annotations

import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray


class NpyWriter:
    """A ``.npy`` of float32 whose number of steps is known at the end only."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.finish((0,))

    def write(self, y: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(y, "<f4").tobytes())

    def finish(self, shape: tuple[int, ...]) -> None:
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        self.file.seek(0)
        self.file.write(b"\x93NUMPY\1\0" + struct.pack("<H", 118) + f"{text:<117}\n".encode())


class CsvWriter:
    """A line for each step, with digits enough to give the same float32 back."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def write(self, y: NDArray[np.float32]) -> None:
        np.savetxt(self.file, y.reshape(len(y), -1), "%.9g", ",")

    def finish(self, shape: tuple[int, ...]) -> None:
        """The lines are all there is to say."""


OUTPUTS: dict[str, type[NpyWriter] | type[CsvWriter]] = {".npy": NpyWriter, ".csv": CsvWriter}
