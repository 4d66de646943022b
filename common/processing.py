"""The processing grammar: `step *("|" step)`, a step being `name[:arg…]`. Parses, validates, and has one canonical text.

Promises that `parse(p.canonical) == p`, and that what `check_size` lets pass can be made of a picture of that size.
A new step is a line in STEPS and a function of its name in worker/steps.py (see docs/processing.md).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from common.errors import InvalidProcessing
from common.formats import Format, Limits

DEFAULT = "resize:800|grayscale"
DEFAULT_QUALITY = 85
MAX_SIDE = 16_384
MAX_TEXT = 1_000
MAX_STEPS = 20

Size = tuple[int, int]
"""Width and height in pixels."""


class Fit(StrEnum):
    """How a picture comes into a box: wholly inside it, covering it and cropped, or exactly its size."""

    FIT = "fit"
    FILL = "fill"
    STRETCH = "stretch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """To `width`, to `height`, or to a box of both; a side that is not named keeps the aspect ratio (rounded, at least 1).
    `down`: never enlarges."""

    width: int | None = None
    height: int | None = None
    fit: Fit = Fit.FIT
    down: bool = False
    name: str = "resize"

    @property
    def canonical(self) -> str:
        box = f"{self.width or ''}" if self.height is None else f"{self.width or ''}x{self.height}"
        return ":".join(
            part for part in (self.name, box, "" if self.fit is Fit.FIT else self.fit.value, "down" if self.down else "") if part
        )

    def size_after(self, size: Size) -> Size:
        width, height = size
        if self.width is None or self.height is None:
            scale = Fraction(self.width, width) if self.width else Fraction(self.height or 1, height)
            return size if self.down and scale >= 1 else (self.width or _side(width, scale), self.height or _side(height, scale))
        if self.fit is Fit.STRETCH:
            return (min(self.width, width), min(self.height, height)) if self.down else (self.width, self.height)
        across, upward = Fraction(self.width, width), Fraction(self.height, height)
        if self.fit is Fit.FIT:
            scale = min(across, upward)
            if self.down and scale >= 1:
                return size
            return (self.width, _side(height, scale)) if across <= upward else (_side(width, scale), self.height)
        if self.down and max(across, upward) > 1:
            # The largest part of the box's shape.
            part = 1 / max(across, upward)
            return min(width, _side(self.width, part)), min(height, _side(self.height, part))
        return self.width, self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """The part of `width` × `height` whose upper left corner is `x` from the left and `y` from the top."""

    width: int
    height: int
    x: int
    y: int
    name: str = "crop"

    @property
    def canonical(self) -> str:
        return f"{self.name}:{self.width}x{self.height}+{self.x}+{self.y}"

    def size_after(self, size: Size) -> Size:
        if self.x + self.width > size[0] or self.y + self.height > size[1]:
            raise InvalidProcessing(f"reaches beyond the picture, which has {size[0]} × {size[1]} pixels here.")
        return self.width, self.height


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """Clockwise, by 90, 180 or 270 `degrees`."""

    degrees: int
    name: str = "rotate"

    @property
    def canonical(self) -> str:
        return f"{self.name}:{self.degrees}"

    def size_after(self, size: Size) -> Size:
        return size if self.degrees == 180 else (size[1], size[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A step that keeps the size, with at most one number: what it means is up to the step."""

    name: str
    amount: Decimal | None = None

    @property
    def canonical(self) -> str:
        return self.name if self.amount is None else f"{self.name}:{_plain(self.amount)}"

    def size_after(self, size: Size) -> Size:
        return size


Step = Resize | Crop | Rotate | Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """`format` and `quality` are None where nothing was said: then the input's format, and DEFAULT_QUALITY."""

    steps: tuple[Step, ...] = ()
    format: Format | None = None
    quality: int | None = None

    @property
    def canonical(self) -> str:
        output = [f"format:{self.format.label}"] if self.format else []
        output += [f"quality:{self.quality}"] if self.quality else []
        return "|".join([step.canonical for step in self.steps] + output)

    def sizes(self, size: Size) -> Iterator[tuple[Step, Size]]:
        """Each step with the size after it, for a picture of that size. Raises InvalidProcessing, naming the step."""
        for step in self.steps:
            try:
                size = step.size_after(size)
            except InvalidProcessing as error:
                raise InvalidProcessing(f"{step.canonical}: {error.detail}") from None
            yield step, size

    def output_format(self, given: Format) -> Format:
        return self.format or given

    def check_size(self, given: Format, size: Size, frames: int, limits: Limits) -> Size:
        """The output's size, for an input of that format and size. Raises InvalidProcessing, naming the step at fault."""
        output = self.output_format(given)
        kept = frames if output.is_animated else 1
        for step, (width, height) in self.sizes(size):
            if width > MAX_SIDE or height > MAX_SIDE or width * height > limits.pixels:
                raise InvalidProcessing(
                    f"{step.canonical}: would make a picture of {width} × {height} pixels; "
                    f"a side may have {MAX_SIDE} and the whole {limits.pixels}."
                )
            if width * height * kept > limits.total_pixels:
                raise InvalidProcessing(
                    f"{step.canonical}: would make {kept} frames of {width} × {height} pixels; "
                    f"all frames together may have {limits.total_pixels}."
                )
            size = width, height
        if max(size) > output.max_side:
            raise InvalidProcessing(
                f"format:{output.label}: a side may have {output.max_side} pixels, and the picture has {size[0]} × {size[1]}."
            )
        return size


def _side(length: int, scale: Fraction) -> int:
    """Rounded half up, at least 1."""
    return max(1, int(length * scale + Fraction(1, 2)))


def _plain(number: Decimal) -> str:
    """Without an exponent, a plus or zeros that say nothing."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---- Parsing: a parser gets the step's name and its arguments, and raises InvalidProcessing with a detail that ends a sentence
# which begins with the step.

Parser = Callable[[str, list[str]], Step]
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?", re.ASCII)
_BOX = re.compile(r"([0-9]{1,9})(?:x([0-9]{1,9}))?|x([0-9]{1,9})", re.ASCII)
_AREA = re.compile(r"([0-9]{1,9})x([0-9]{1,9})\+([0-9]{1,9})\+([0-9]{1,9})", re.ASCII)


def _resize(name: str, arguments: list[str]) -> Step:
    box = _BOX.fullmatch(arguments[0]) if arguments else None
    if box is None:
        raise InvalidProcessing("takes a width, a height or a box in pixels, as in resize:800, resize:x600 or resize:800x600:fill.")
    width = box[1] and _within(int(box[1]), "the width", 1, MAX_SIDE)
    height = (box[2] or box[3]) and _within(int(box[2] or box[3]), "the height", 1, MAX_SIDE)
    options = arguments[1:]
    down = options[-1:] == ["down"]
    modes = options[:-1] if down else options
    if modes and not (width and height):
        raise InvalidProcessing(f"{modes[0]!r} does not go with one side; after it may come only down, as in resize:800:down.")
    if len(modes) > 1 or (modes and modes[0] not in tuple(Fit)):
        raise InvalidProcessing("after the box may come fit, fill or stretch, and then down, as in resize:800x600:fill:down.")
    return Resize(width=width or None, height=height or None, fit=Fit(modes[0]) if modes else Fit.FIT, down=down)


def _crop(name: str, arguments: list[str]) -> Step:
    area = _AREA.fullmatch(arguments[0]) if len(arguments) == 1 else None
    if area is None:
        raise InvalidProcessing("takes an area in pixels, WIDTHxHEIGHT+X+Y, as in crop:400x300+10+20.")
    width, height, x, y = (int(number) for number in area.groups())
    _within(width, "the width", 1, MAX_SIDE)
    _within(height, "the height", 1, MAX_SIDE)
    return Crop(width=width, height=height, x=x, y=y)


def _rotate(name: str, arguments: list[str]) -> Step:
    if arguments not in (["90"], ["180"], ["270"]):
        raise InvalidProcessing("takes 90, 180 or 270 degrees, clockwise, as in rotate:90.")
    return Rotate(degrees=int(arguments[0]))


def _plain_filter(name: str, arguments: list[str]) -> Step:
    if arguments:
        raise InvalidProcessing("takes no argument.")
    return Filter(name=name)


def _filter(what: str, least: str, most: str, default: str | None = None) -> Parser:
    """A filter of one number, which may be left out where there is a default."""

    def parse_filter(name: str, arguments: list[str]) -> Step:
        given = arguments or ([default] if default else [])
        if len(given) != 1 or not _DECIMAL.fullmatch(given[0]) or not Decimal(least) <= Decimal(given[0]) <= Decimal(most):
            raise InvalidProcessing(f"takes {what} from {least} to {most}, with up to three decimals.")
        return Filter(name=name, amount=Decimal(_plain(Decimal(given[0]))))

    return parse_filter


STEPS: dict[str, Parser] = {
    "resize": _resize,
    "grayscale": _plain_filter,
    "rotate": _rotate,
    "flip": _plain_filter,
    "mirror": _plain_filter,
    "blur": _filter("a sigma in pixels", "0.1", "100"),
    "sharpen": _filter("an amount", "0.1", "10", default="1"),
    "crop": _crop,
}


def _format(arguments: list[str]) -> Format:
    for kind in Format:
        if arguments == [kind.label]:
            return kind
    raise InvalidProcessing(f"takes one of {', '.join(kind.label for kind in Format)}, as in format:webp.")


def _quality(arguments: list[str]) -> int:
    if len(arguments) != 1 or not _NUMBER.fullmatch(arguments[0]):
        raise InvalidProcessing("takes a number from 1 to 100, as in quality:80.")
    return _within(int(arguments[0]), "the quality", 1, 100)


def _within(number: int, what: str, least: int, most: int) -> int:
    if not least <= number <= most:
        raise InvalidProcessing(f"{what} must be from {least} to {most}.")
    return number


def parse(text: str | None) -> Processing:
    """Empty or None: the default. Raises InvalidProcessing with a detail that begins with the step at fault."""
    text = text or DEFAULT
    if len(text) > MAX_TEXT:
        raise InvalidProcessing(f"The processing may have {MAX_TEXT} characters.")
    parts = text.split("|")
    if len(parts) > MAX_STEPS:
        raise InvalidProcessing(f"The processing may have {MAX_STEPS} steps.")
    found = Processing()
    for number, part in enumerate(parts, 1):
        try:
            found = _with_step(found, part)
        except InvalidProcessing as error:
            raise InvalidProcessing(f"{_shown(part) or f'step {number}'}: {error.detail}") from None
    return found


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:100])


def _with_step(found: Processing, text: str) -> Processing:
    name, *arguments = text.split(":")
    match name:
        case "format" if found.format:
            raise InvalidProcessing("the format may be given once.")
        case "format":
            return replace(found, format=_format(arguments))
        case "quality" if found.quality:
            raise InvalidProcessing("the quality may be given once.")
        case "quality":
            return replace(found, quality=_quality(arguments))
        case _ if name in STEPS:
            return replace(found, steps=(*found.steps, STEPS[name](name, arguments)))
        case "":
            raise InvalidProcessing("is empty; steps are parted by one | each.")
        case _:
            raise InvalidProcessing(f"unknown step; the steps are {', '.join((*STEPS, 'format', 'quality'))}.")


def resolve(text: str | None, presets: Mapping[str, Processing], *, presets_only: bool) -> Processing:
    """`@name` is the preset of that name; else as `parse`, unless only presets are allowed. Raises InvalidProcessing."""
    names = ", ".join(f"@{name}" for name in presets) or "none is set up here"
    if text and text.startswith("@"):
        if text[1:] not in presets:
            raise InvalidProcessing(f"{_shown(text)}: unknown preset; the presets are: {names}.")
        return presets[text[1:]]
    if text and presets_only:
        raise InvalidProcessing(f"{_shown(text)}: only presets are allowed here: {names}.")
    return parse(text)
