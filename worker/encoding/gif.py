"""GIF, still and animated. Each frame has a palette of its own, unless all is gray; a pixel is either opaque or not there at all.

Up to 256 colours (255 beside transparency) come out as they are, more are dithered. Gray comes out as it is, unless all 256 levels
and transparency leave no room: then the lightest two become one.
Source: GIF89a specification, sections 18 to 26. Netscape's extension says how often an animation is shown after the first time.
"""

import struct
from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageChops
from PIL.GifImagePlugin import getdata

from worker.decoding.picture import Frame
from worker.encoding.surface import changed_box, has_alpha

_COLOURS = 256
_LEVELS = bytes(level for level in range(256) for _ in range(3))
_VISIBLE_FROM = 128
_TO_HIDDEN = [255] * _VISIBLE_FROM + [0] * (256 - _VISIBLE_FROM)
# Colours are sought in no more pixels than this, across and down: in all of them it would take a second.
_SOUGHT_IN = 160
_GRAY_SCREEN, _COLOUR_SCREEN = 0xF7, 0x70
_KEEP, _CLEAR = 1, 2
_MOST = 65_535


def encode_gif(frames: Iterator[Frame], count: int, loops: int) -> bytes:
    pieces: list[bytes] = []
    before: Image.Image | None = None
    clock = _Clock()
    for frame in frames:
        image = frame.image
        if before is None:
            pieces.append(_head(image, loops if count > 1 else 1))
        # Where something is transparent, the frame before must not show through: it is cleared, and this one is written whole.
        box = changed_box(None if has_alpha(image) else before, image)
        options = {"duration": 10 * clock.hundredths(frame.duration_ms)} if count > 1 else {}
        if count > 1:
            options["disposal"] = _CLEAR if has_alpha(image) else _KEEP
        indexed, transparent = _indexed_gray(image.crop(box)) if image.mode in ("L", "LA") else _indexed(image.crop(box))
        if transparent is not None:
            options["transparency"] = transparent
        pieces += getdata(indexed, box[:2], include_color_table=image.mode not in ("L", "LA"), **options)
        before = image
    return b"".join((*pieces, b";"))


def _head(image: Image.Image, loops: int) -> bytes:
    is_gray = image.mode in ("L", "LA")
    screen = struct.pack("<6sHHBBB", b"GIF89a", *image.size, _GRAY_SCREEN if is_gray else _COLOUR_SCREEN, 0, 0)
    again = b"" if loops == 1 else b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", min(max(0, loops - 1), _MOST), 0)
    return screen + (_LEVELS if is_gray else b"") + again


class _Clock:
    """Rounds to hundredths of a second so that the animation is as long as it was: what one frame got too much the next ones get
    less. None that was meant to be seen gets less than two: browsers show such frames for a tenth of a second."""

    def __init__(self) -> None:
        self._owed_ms = 0

    def hundredths(self, milliseconds: int) -> int:
        milliseconds = min(milliseconds, 10 * _MOST)
        least = 2 if milliseconds > 10 else 0
        given = min(_MOST, max(least, round((milliseconds + self._owed_ms) / 10)))
        self._owed_ms += milliseconds - 10 * given
        return given


def _indexed_gray(image: Image.Image) -> tuple[Image.Image, int | None]:
    """→ the levels as indices, and which of them is for what is transparent."""
    levels, hidden, transparent = image.getchannel("L"), _hidden(image), None
    if hidden is not None:
        counts = levels.histogram(ImageChops.invert(hidden))
        transparent = counts.index(0) if 0 in counts else 255
        if 0 not in counts:
            levels = levels.point([*range(255), 254])
        levels.paste(transparent, mask=hidden)
    levels.putpalette(_LEVELS)
    return levels, transparent


def _indexed(image: Image.Image) -> tuple[Image.Image, int | None]:
    """→ the colours as indices, and which index is for what is transparent."""
    colours, hidden = image.convert("RGB"), _hidden(image)
    if hidden is None:
        return _quantized(colours, _COLOURS), None
    # What is hidden is given a colour that is there anyway, so that it takes none away.
    colours.paste(_a_visible_colour(image), mask=hidden)
    indexed = _quantized(colours, _COLOURS - 1)
    palette = indexed.getpalette() or []
    transparent = len(palette) // 3
    indexed.putpalette([*palette, 0, 0, 0])
    indexed.paste(transparent, mask=hidden)
    return indexed, transparent


def _a_visible_colour(image: Image.Image) -> tuple[int, ...]:
    """Or black, where it does not matter: there are too many to count, or none."""
    counted: Any = image.getcolors(1 << 16) or []
    return next((colour[:3] for _, colour in counted if colour[3] >= _VISIBLE_FROM), (0, 0, 0))


def _hidden(image: Image.Image) -> Image.Image | None:
    """A mask of what is less than half there; None where all is."""
    if not has_alpha(image):
        return None
    hidden = image.getchannel("A").point(_TO_HIDDEN)
    return hidden if hidden.getbbox() else None


def _quantized(image: Image.Image, most: int) -> Image.Image:
    found = image.getcolors(most)
    if found:
        return image.quantize(len(found), Image.Quantize.MEDIANCUT)
    sample = image.resize((min(image.width, _SOUGHT_IN), min(image.height, _SOUGHT_IN)), Image.Resampling.NEAREST)
    palette = sample.quantize(most, Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
