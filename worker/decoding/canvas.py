"""How the frames of a GIF or an APNG become whole pictures: each is put upon what those before it have left.

Promises that all pictures have one mode, without an alpha channel where nothing can be transparent in any of them.
Sources: GIF89a, section 23; PNG (third edition), section 11.3.2. What neither says is done as browsers do it: the canvas is
transparent at first and wherever a frame was cleared, and what lies beyond it is cut off.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from PIL import Image

from common.processing import Size
from worker.decoding.picture import Frame

# Rows that are mixed at once.
_BAND = 256


class Disposal(Enum):
    """What happens to a frame's rectangle once its time is over."""

    KEEP = 0
    CLEAR = 1
    RESTORE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A frame as it is stored: its place, its pixels (decoded when they are asked for), and whether these take the place of what is
    there, transparency included, or are laid over it."""

    box: tuple[int, int, int, int]
    decoded: Callable[[], Image.Image]
    duration_ms: int
    disposal: Disposal
    replaces: bool = False


def composed(size: Size, mode: str, parts: Sequence[Part]) -> Iterator[Frame]:
    """`mode`: L or RGB, which every part's pixels have, with or without alpha."""
    first = parts[0].decoded()
    canvas = Image.new(mode if _stays_opaque(size, first, parts) else f"{mode}A", size)
    image: Image.Image | None = first
    del first  # so that memory need not hold it any longer than the canvas has it
    for part in parts[:-1]:
        before = canvas.crop(part.box) if part.disposal is Disposal.RESTORE else None
        _put(canvas, image or part.decoded(), part)
        image = None
        yield Frame(image=canvas.copy(), duration_ms=part.duration_ms)
        if before is not None:
            canvas.paste(before, part.box)
        elif part.disposal is Disposal.CLEAR:
            canvas.paste((0,) * len(canvas.getbands()), part.box)
    _put(canvas, image or parts[-1].decoded(), parts[-1])
    del image
    yield Frame(image=canvas, duration_ms=parts[-1].duration_ms)


def _stays_opaque(size: Size, first: Image.Image, parts: Sequence[Part]) -> bool:
    if parts[0].box != (0, 0, *size) or parts[0].disposal is Disposal.RESTORE:
        return False
    if any(part.disposal is Disposal.CLEAR for part in parts[:-1]):
        return False
    if not first.mode.endswith("A"):
        return True
    return first.getchannel("A").getextrema() == (255, 255) and not any(part.replaces for part in parts[1:])


def _put(canvas: Image.Image, image: Image.Image, part: Part) -> None:
    if not image.mode.endswith("A") or part.replaces:
        canvas.paste(image.convert(canvas.mode), part.box)
    elif canvas.mode.endswith("A"):
        _lay_over(canvas, image.convert(canvas.mode), part.box)
    else:
        canvas.paste(image.convert(canvas.mode), part.box, mask=image.getchannel("A"))


def _lay_over(canvas: Image.Image, image: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Band by band: what is mixed is there twice more while it is done."""
    left, upper, right, lower = box
    for top in range(upper, lower, _BAND):
        bottom = min(top + _BAND, lower)
        under, over = canvas.crop((left, top, right, bottom)), image.crop((0, top - upper, right - left, bottom - upper))
        canvas.paste(Image.alpha_composite(under, over), (left, top))
