"""Outputs of `tinyrnn run`: .npy, .csv and bare samples."""

from __future__ import annotations

import struct
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tinyrnn.cli.options import RAW_OUTPUT


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
        """Do nothing: the lines are complete."""


class FloatWriter(CsvWriter):
    """Bare float32 samples."""

    def write(self, y: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(y, "<f4").tobytes())


class PcmWriter(CsvWriter):
    """Bare samples of 16 bits: 1.0 is full scale, beyond which they are clipped. A NaN is silence."""

    def write(self, y: NDArray[np.float32]) -> None:
        scaled = np.rint(np.nan_to_num(y) * np.float32(1 << 15))
        self.file.write(np.clip(scaled, -(1 << 15), (1 << 15) - 1).astype("<i2").tobytes())


RAW_OUTPUTS: dict[str, type[CsvWriter]] = dict(zip(RAW_OUTPUT, (PcmWriter, FloatWriter), strict=True))

OUTPUTS: dict[str, type[NpyWriter] | type[CsvWriter]] = {".npy": NpyWriter, ".csv": CsvWriter}
