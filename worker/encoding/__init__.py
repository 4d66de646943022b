"""From pixels to a file's bytes, in every format, without metadata.

Alpha is kept where the format has it (in a GIF, all or nothing) and flattened on white where it has none; colours that are hidden
under full transparency are not written. Several frames become an animation where the format has those. Frames are taken one at a
time: at most two are there as pixels at once, whatever their number.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from PIL import Image

from common.formats import Format
from worker.decoding.picture import Frame
from worker.encoding.gif import encode_gif
from worker.encoding.png import encode_apng, encode_png
from worker.encoding.surface import flattened, without_hidden_colours
from worker.encoding.webp import encode_animated_webp, encode_webp

_HAVE_NO_ALPHA = (Format.JPEG, Format.BMP)
# Differences of neighbours instead of levels, which are smaller. Source: TIFF 6.0, section 14.
_PREDICTOR, _HORIZONTAL = 317, 2
# Of Pillow's own writers, and of libwebp, whose errors 1 and 2 it is.
_OUT_OF_MEMORY = re.compile(r"out of memory|^encoding error [12]\b|WebPEncodingError: [12]\b|^could not create encoder")


def encode(frames: Iterator[Frame], kind: Format, quality: int, *, count: int, loops: int) -> bytes:
    """`count`: how many of the frames to take; all have one mode, L, LA, RGB or RGBA. `loops`: how often they are shown, 0 for
    ever. `quality` is for the formats that lose something: JPEG, WebP, AVIF."""
    prepared = map(_flattened if kind in _HAVE_NO_ALPHA else _without_hidden_colours, islice(frames, count))
    with _lack_of_memory_is_told():
        match kind:
            case Format.GIF:
                return encode_gif(prepared, count, loops)
            case Format.PNG if count > 1:
                return encode_apng(prepared, count, loops)
            case Format.WEBP if count > 1:
                return encode_animated_webp(prepared, count, loops, quality)
            case _:
                return _encode_still(next(prepared).image, kind, quality)


def _flattened(frame: Frame) -> Frame:
    return replace(frame, image=flattened(frame.image))


def _without_hidden_colours(frame: Frame) -> Frame:
    return replace(frame, image=without_hidden_colours(frame.image))


@contextmanager
def _lack_of_memory_is_told() -> Iterator[None]:
    """Whatever the writers call it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise MemoryError from error
        raise


def _encode_still(image: Image.Image, kind: Format, quality: int) -> bytes:
    buffer = io.BytesIO()
    match kind:
        case Format.PNG:
            return encode_png(image)
        case Format.WEBP:
            return encode_webp(image, quality)
        case Format.JPEG | Format.AVIF:
            image.save(buffer, kind.name, quality=quality)
        case Format.TIFF:
            # Gray with alpha would be taken for gray with something else.
            colours = image.convert("RGBA") if image.mode == "LA" else image
            colours.save(buffer, "TIFF", compression="tiff_lzw", tiffinfo={_PREDICTOR: _HORIZONTAL})
        case _:
            image.save(buffer, kind.name)
    return buffer.getvalue()
