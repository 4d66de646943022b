"""What every decoder hands out, and the limits that every one of them holds its file to."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from common.errors import InvalidProcessing, PictureRefused
from common.formats import Format, Limits
from common.images import FailureCode
from common.processing import Processing, Size

# From stored to upright. Source: EXIF 2.32, 4.6.4 (orientation).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One upright picture in 8-bit sRGB, mode L, LA, RGB or RGBA, and how long it is shown."""

    image: Image.Image
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """`size` is the upright picture's. The frames come one after the other, decoded as they are asked for; `count` is how many. A
    still picture has one, which, where the processing begins with a resize, may already be that resize's result.
    `loops`: how often an animation is shown, 0 for ever."""

    kind: Format
    size: Size
    frames: Iterator[Frame]
    count: int = 1
    loops: int = 0


def check_limits(kind: Format, stored: Size, frames: int, limits: Limits) -> None:
    """Raises PictureRefused. To be called before a pixel is decoded."""
    width, height = stored
    if width * height > limits.pixels:
        raise over_limit(f"The picture has {width} × {height} pixels; {limits.pixels} in all are allowed.")
    if frames > limits.frames:
        raise over_limit(f"The {kind.name} has more than {limits.frames} frames.")
    if width * height * frames > limits.total_pixels:
        raise over_limit(
            f"The {kind.name} has {frames} frames of {width} × {height} pixels; {limits.total_pixels} in all are allowed."
        )


def check_output(kind: Format, upright: Size, frames: int, processing: Processing, limits: Limits) -> None:
    """Raises PictureRefused. The gateway has said so at the upload, unless its limits are others."""
    try:
        processing.check_size(kind, upright, frames, limits)
    except InvalidProcessing as error:
        raise over_limit(error.detail) from None


def unsupported(kind: Format, what: str) -> PictureRefused:
    """For files that are whole, as far as anybody can tell, and of a kind that is not decoded here."""
    return PictureRefused(
        FailureCode.CORRUPT_IMAGE, f"The {kind.name} file has {what}, which is not supported. Save it another way."
    )


def check_memory(size: int) -> None:
    """Raises MemoryError where so many bytes are not to be had. For decoders that call it damage when they run out of memory."""
    try:
        mmap.mmap(-1, max(1, size)).close()
    except OSError:
        raise MemoryError(f"{size} bytes") from None


def over_limit(detail: str) -> PictureRefused:
    return PictureRefused(FailureCode.LIMIT_EXCEEDED, detail)


def turned_upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)
