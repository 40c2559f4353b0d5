"""Devices that a test machine lacks, behind the interfaces of the packages that read them.

The pages of docs/ import these packages: sounddevice for a microphone, smbus2 for a sensor on the I2C bus,
paho-mqtt for a broker. What they hear is short; at its end Ctrl-C is pressed, or the broker closes the
connection.
"""

from __future__ import annotations

import math
import threading
import types
from typing import Any

import numpy as np

SECONDS = 2
CHANNELS_OF_SENSOR = 3
MESSAGES = 20


class InputStream:
    """A microphone that hears a tone which comes and goes."""

    def __init__(
        self, samplerate: float, channels: int = 1, dtype: str = "float32", blocksize: int = 0
    ) -> None:
        assert (channels, dtype) == (1, "float32")
        t = np.arange(int(SECONDS * samplerate)) / samplerate
        tone = 0.3 * np.sin(2 * np.pi * 440 * t) * (np.floor(2 * t) % 2)
        self._samples = tone.astype(np.float32)[:, None]
        self._at = 0

    def __enter__(self) -> InputStream:
        return self

    def __exit__(self, *error: object) -> None: ...

    def read(self, frames: int) -> tuple[Any, bool]:
        """The next samples, (frames, 1), and whether some were lost before them."""
        if self._at + frames > len(self._samples):
            raise KeyboardInterrupt
        self._at += frames
        return self._samples[self._at - frames : self._at], False


class SMBus:
    """A bus with an MPU-6050 at rest: gravity along z, in registers of two bytes, the higher first."""

    def __init__(self, bus: int) -> None:
        self._registers: dict[int, int] = {}
        self._reads = 0

    def __enter__(self) -> SMBus:
        return self

    def __exit__(self, *error: object) -> None: ...

    def write_byte_data(self, address: int, register: int, value: int) -> None:
        """Write a register."""
        self._registers[register] = value

    def read_i2c_block_data(self, address: int, register: int, length: int) -> list[int]:
        """Read registers one after the other."""
        assert (address, register, length) == (0x68, 0x3B, 2 * CHANNELS_OF_SENSOR)
        assert self._registers.get(0x6B) == 0, "the sensor sleeps until its register 0x6B is 0"
        self._reads += 1
        if self._reads > 100 * SECONDS:
            raise KeyboardInterrupt
        shake = int(200 * math.sin(self._reads))
        values = (shake, -shake, 16384)
        return [byte for value in values for byte in value.to_bytes(2, "big", signed=True)]


class Client:
    """A client of a broker that sends some frames of zeros to each topic, and closes the connection."""

    on_message: Any = None
    on_disconnect: Any = None

    def __init__(self, version: object) -> None:
        self._connected = False
        self._topics: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def connect(self, host: str, port: int = 1883) -> None:
        """Connect to a broker."""
        self._connected = True

    def subscribe(self, topic: str) -> None:
        """Ask for the messages of a topic."""
        assert self._connected
        self._topics.append(topic)

    def loop_start(self) -> None:
        """Call the callbacks from a thread."""
        self._thread.start()

    def loop_stop(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()

    def _run(self) -> None:
        for topic in self._topics:
            for _ in range(MESSAGES):
                self.on_message(self, None, types.SimpleNamespace(topic=topic, payload=bytes(4 * 40)))
        self.on_disconnect(self, None, None, 0, None)


def _paho() -> types.ModuleType:
    module, mqtt = types.ModuleType("paho"), types.ModuleType("paho.mqtt")
    client = types.ModuleType("paho.mqtt.client")
    client.Client = Client  # type: ignore[attr-defined]
    client.CallbackAPIVersion = types.SimpleNamespace(VERSION2=2)  # type: ignore[attr-defined]
    module.mqtt, mqtt.client = mqtt, client  # type: ignore[attr-defined]
    return module


def _sounddevice() -> types.ModuleType:
    module = types.ModuleType("sounddevice")
    module.InputStream = InputStream  # type: ignore[attr-defined]
    return module


def _smbus2() -> types.ModuleType:
    module = types.ModuleType("smbus2")
    module.SMBus = SMBus  # type: ignore[attr-defined]
    return module


# The packages, by name.
MODULES = {"sounddevice": _sounddevice, "smbus2": _smbus2, "paho": _paho}
