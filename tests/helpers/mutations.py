"""Files after an accident or an attack."""

from __future__ import annotations

import random


def mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """The same file after an accident or an attack."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(7):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at % len(out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.randrange(1, 40)]
            case 4:
                size = rng.choice((1, 2, 4, 8))
                out[at : at + size] = rng.choice((b"\xff", b"\0", b"\x7f", b"9")) * size
            case 5:
                other = rng.choice(others)
                start = rng.randrange(len(other))
                out[at : at + rng.randrange(40)] = other[start : start + rng.randrange(40)]
            case 6:
                out[at:at] = out[rng.randrange(len(out) + 1) :][: rng.randrange(60)]
    return bytes(out)
