"""WebP, lossy and lossless, still and animated. libwebp composes the frames; without Pillow's plugin, which holds every one of them
three times over.

Source: RFC 9649, section 2 (container) and 3.4 (lossless header); RFC 6386, section 9.1 (lossy header).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image, _webp

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Processing, Size
from worker.decoding.colour import profile_in, to_srgb
from worker.decoding.intact import Damaged
from worker.decoding.picture import Decoded, Frame, check_limits, check_memory, check_output, turned_upright

_HAS_ALPHA = 0x10
_CLEARED_AFTERWARDS = 0x01
# libwebp's two canvases; later a frame on its way to them, and the copy that is handed out.
_BYTES_PER_PIXEL = 8


@dataclass(frozen=True, slots=True)
class _Layout:
    size: Size
    frames: int = 1
    has_alpha: bool = False


def decode_webp(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    layout = _layout_of(data)
    check_limits(Format.WEBP, layout.size, layout.frames, limits)
    memory = _BYTES_PER_PIXEL * layout.size[0] * layout.size[1]
    check_memory(memory)
    decoder = _webp.WebPAnimDecoder(data)
    size, loops, _, frames, _ = decoder.get_info()
    if (size, frames) != (layout.size, layout.frames):
        raise Damaged("its parts do not agree")
    orientation = orientation_in(decoder.get_chunk("EXIF"))
    upright = upright_size(*layout.size, orientation)
    check_output(Format.WEBP, upright, frames, processing, limits)
    check_memory(memory)
    profile = profile_in(decoder.get_chunk("ICCP"))
    decoded = (
        Frame(image=turned_upright(to_srgb(image, profile), orientation), duration_ms=duration_ms)
        for image, duration_ms in _composed(decoder, layout)
    )
    return Decoded(kind=Format.WEBP, size=upright, frames=decoded, count=frames, loops=loops)


def _layout_of(data: bytes) -> _Layout:
    """By the headers alone, before libwebp makes its canvases; it finds what does not agree with them."""
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    if 8 + riff_bytes > len(data):
        raise Damaged("its end is missing")
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return _Layout((width & 0x3FFF, height & 0x3FFF))
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return _Layout(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), has_alpha=bool(bits >> 28 & 1))
    canvas = _number24(data, 24) + 1, _number24(data, 27) + 1
    frames = list(_frames_in(data, 8 + riff_bytes))
    has_holes = bool(frames) and (frames[0][0] != canvas or any(flags & _CLEARED_AFTERWARDS for _, flags in frames))
    return _Layout(canvas, len(frames) or 1, has_alpha=bool(data[20] & _HAS_ALPHA) or has_holes)


def _frames_in(data: bytes, end: int) -> Iterator[tuple[Size, int]]:
    """→ the size and the flags of each."""
    position = 12
    while position < end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"ANMF":
            yield (_number24(data, position + 14) + 1, _number24(data, position + 17) + 1), data[position + 23]
        position += 8 + length + length % 2


def _number24(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 3], "little")


def _composed(decoder: Any, layout: _Layout) -> Iterator[tuple[Image.Image, int]]:
    """→ each frame, and for how many milliseconds it is shown. A frame that cannot be decoded raises OSError."""
    mode, raw_mode = ("RGBA", "RGBA") if layout.has_alpha else ("RGB", "RGBX")
    begin = 0
    for number in range(layout.frames):
        pixels, end = decoder.get_next()
        if number + 1 == layout.frames:
            del decoder  # and its canvases
        image = Image.frombytes(mode, layout.size, pixels, "raw", raw_mode)
        del pixels
        yield image, end - begin
        begin = end
