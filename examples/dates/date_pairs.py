"""Dates as people write them beside the same dates in ISO form: the data of this example, made by a seed.

    python date_pairs.py            # twenty pairs, to look at
    python date_pairs.py --count 5 --seed 3

No date is ambiguous: numbers between slashes, dots or hyphens are day, month, year, or begin with a
year of four digits; a year of two digits lies in 1950 .. 2049. Weekdays are the right ones.
"""

from __future__ import annotations

import argparse
import datetime
import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FIRST, LAST = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ONE_TO_NINE = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
ORDINALS = (
    *ONE_TO_NINE,
    *("tenth", "eleventh", "twelfth", "thirteenth", "fourteenth"),
    *("fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth"),
    *(f"twenty-{word}" for word in ONE_TO_NINE),
    *("thirtieth", "thirty-first"),
)

# Symbol 0 pads the texts; lengths keep it out of the encoder.
READ = "\0" + string.digits + string.ascii_letters + " ,./-'"
# The decoder starts from ">" and ends with "\n".
WRITTEN = string.digits + "-\n>"
START, END = WRITTEN.index(">"), WRITTEN.index("\n")
STEPS = len("1994-03-03\n")


class Batch(NamedTuple):
    """Pairs as the nets read them; time comes first."""

    source: NDArray[np.int32]  # (T, B) symbols of READ, zeros beyond a row's length
    lengths: NDArray[np.int32]  # (B,)
    given: NDArray[np.int32]  # (STEPS, B) symbols of WRITTEN: the start, then the right symbol before
    target: NDArray[np.int32]  # (STEPS, B) the right symbol


def split_dates(seed: int, held_out: float = 0.1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every day of the hundred years, as ordinals, in two parts that share none: to train on, to test on."""
    days = np.random.default_rng(seed).permutation(np.arange(FIRST.toordinal(), LAST.toordinal() + 1))
    count = round(len(days) * held_out)
    return days[count:], days[:count]


def write_date(day: datetime.date, generator: np.random.Generator) -> str:
    """A date in one of many forms, drawn."""

    def one_of(*choices: str) -> str:
        return choices[generator.integers(len(choices))]

    year, short = f"{day.year}", f"{day.year % 100:02}"
    if generator.random() < 0.3:
        mark = one_of("/", ".", "-")
        digits = one_of("02", "")
        d, m = f"{day.day:{digits}}", f"{day.month:{digits}}"
        forms = (mark.join((d, m, year)), mark.join((d, m, short)), mark.join((year, m, d)))
        return one_of(*forms, f"{year}{day.month:02}{day.day:02}")

    name = MONTHS[day.month - 1]
    month = one_of(name, name[:3], name[:3] + ("" if name == "May" else "."))
    endings = {1: "st", 2: "nd", 3: "rd"}  # codespell:ignore nd
    ending = "th" if 11 <= day.day <= 13 else endings.get(day.day % 10, "th")
    nth = f"{day.day}{ending}"
    d = one_of(str(day.day), f"{day.day:02}", nth)
    y = one_of(year, year, year, short, f"'{short}")
    text = one_of(
        f"{d} {month} {y}",
        f"{d} {month}, {y}",
        f"{month} {d}, {y}",
        f"{month} {d} {y}",
        f"{d}-{name[:3]}-{y}",
        f"{nth} of {month} {y}",
        f"the {nth} of {month}, {y}",
        f"the {ORDINALS[day.day - 1]} of {name}, {year}",
        f"{name} the {ORDINALS[day.day - 1]}, {year}",
        f"{year} {month} {d}",
        f"{year}, {d} {month}",
    )
    if generator.random() < 0.3:
        weekday = WEEKDAYS[day.weekday()]
        text = one_of(f"{weekday}, ", f"{weekday} ", f"{weekday[:3]}, ", f"{weekday[:3]} ") + text
    return one_of(text, text, text, text, text.lower(), text.upper())


def draw_pairs(days: NDArray[np.int64], count: int, generator: np.random.Generator) -> list[tuple[str, str]]:
    """``count`` pairs (as written, ISO) of days drawn from ``days``, forms drawn too."""
    drawn = (datetime.date.fromordinal(int(day)) for day in generator.choice(days, count))
    return [(write_date(day, generator), day.isoformat()) for day in drawn]


def encode_texts(texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Texts as (T, B) symbols padded to the longest, and their lengths.

    Raises
    ------
    ValueError
        If a text is empty or has a character that no date here has.
    """
    symbols = []
    for text in texts:
        strange = [character for character in text if character not in READ[1:]]
        if strange or not text:
            what = f"has {strange[0]!r}, which is in no date here" if strange else "is empty"
            raise ValueError(f"{text!r} {what}")
        symbols.append([READ.index(character) for character in text])
    lengths = np.array([len(row) for row in symbols], np.int32)
    source = np.zeros((lengths.max(), len(symbols)), np.int32)
    for column, row in enumerate(symbols):
        source[: len(row), column] = row
    return source, lengths


def as_batch(pairs: Sequence[tuple[str, str]]) -> Batch:
    """Pairs as arrays."""
    source, lengths = encode_texts([text for text, _ in pairs])
    target = np.array([[WRITTEN.index(c) for c in iso] + [END] for _, iso in pairs], np.int32).T
    given = np.concatenate([np.full((1, len(pairs)), START, np.int32), target[:-1]])
    return Batch(source, lengths, given, np.ascontiguousarray(target))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Print pairs of the example's data.")
    parser.add_argument("--count", type=int, default=20, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the draws")
    options = parser.parse_args(arguments)
    if options.count < 0 or options.seed < 0:
        parser.error("--count and --seed: expected at least 0")
    days, _ = split_dates(options.seed)
    for text, iso in draw_pairs(days, options.count, np.random.default_rng(options.seed)):
        print(f"{iso}  {text}")


if __name__ == "__main__":
    main()
