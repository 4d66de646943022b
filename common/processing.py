"""The processing grammar: `step *("|" step)`, a step being `name[:arg…]`. Parses, validates, and has one canonical text.

Promises that `parse(p.canonical) == p`, and that what parses can be made of a picture of the given size.
A step is one class with a `parse` and one line in STEPS; the code that applies it to pixels is in worker/imaging.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from common.errors import InvalidProcessing

DEFAULT = "resize:800|grayscale"
MAX_SIDE = 16_384
MAX_TEXT = 1_000
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resize:
    """Exactly `width` pixels wide, the height keeping the aspect ratio (rounded, at least 1). Smaller pictures are enlarged."""

    width: int

    @property
    def canonical(self) -> str:
        return f"resize:{self.width}"

    def size_after(self, width: int, height: int) -> tuple[int, int]:
        return self.width, max(1, round(height * self.width / width))


@dataclass(frozen=True, slots=True)
class Grayscale:
    """BT.601 luma of the sRGB values."""

    @property
    def canonical(self) -> str:
        return "grayscale"

    def size_after(self, width: int, height: int) -> tuple[int, int]:
        return width, height


Step = Resize | Grayscale


@dataclass(frozen=True, slots=True)
class Processing:
    steps: tuple[Step, ...]

    @property
    def canonical(self) -> str:
        return "|".join(step.canonical for step in self.steps)

    def check_size(self, width: int, height: int, max_pixels: int) -> tuple[int, int]:
        """The output's size for an input of `width` × `height`. Raises InvalidProcessing, naming the step that can't be done."""
        for step in self.steps:
            width, height = step.size_after(width, height)
            if width > MAX_SIDE or height > MAX_SIDE or width * height > max_pixels:
                raise InvalidProcessing(
                    f"{step.canonical}: would make a picture of {width} × {height} pixels; "
                    f"a side may have {MAX_SIDE} and the whole {max_pixels}."
                )
        return width, height


def _resize(arguments: list[str]) -> Step:
    if len(arguments) != 1 or not _NUMBER.fullmatch(arguments[0]):
        raise InvalidProcessing("takes one width in pixels, as in resize:800.")
    width = int(arguments[0])
    if not 1 <= width <= MAX_SIDE:
        raise InvalidProcessing(f"the width must be from 1 to {MAX_SIDE}.")
    return Resize(width)


def _grayscale(arguments: list[str]) -> Step:
    if arguments:
        raise InvalidProcessing("takes no argument.")
    return Grayscale()


STEPS: dict[str, Callable[[list[str]], Step]] = {"resize": _resize, "grayscale": _grayscale}


def parse(text: str | None) -> Processing:
    """Empty or None: the default. Raises InvalidProcessing with a detail that begins with the step at fault."""
    if not text:
        text = DEFAULT
    if len(text) > MAX_TEXT:
        raise InvalidProcessing(f"The processing may have {MAX_TEXT} characters.")
    return Processing(tuple(_step(part) for part in text.split("|")))


def _step(text: str) -> Step:
    name, *arguments = text.split(":")
    parser = STEPS.get(name)
    if parser is None:
        raise InvalidProcessing(f"{text!r}: unknown step; the steps are {', '.join(STEPS)}.")
    try:
        return parser(arguments)
    except InvalidProcessing as error:
        raise InvalidProcessing(f"{text}: {error.detail}") from None
