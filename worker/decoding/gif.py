"""GIF, still and animated, composed as browsers do. Pillow gets one frame at a time, as a file of its own: of several it would take
those that it can read for all there are.

Source: GIF89a specification, sections 18 to 27. Netscape's extension says how often an animation is shown after the first time.
"""

import io
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from common.formats import Format, Limits
from common.processing import Processing, Size
from worker.decoding.canvas import Disposal, Part, composed
from worker.decoding.colour import to_srgb
from worker.decoding.intact import Damaged
from worker.decoding.picture import Decoded, check_limits, check_output

_TRAILER, _EXTENSION, _FRAME, _NOTHING = 0x3B, 0x21, 0x2C, 0x00
_GRAPHIC_CONTROL, _APPLICATION = 0xF9, 0xFF
_LOOPING = (b"\x0bNETSCAPE2.0\x03\x01", b"\x0bANIMEXTS1.0\x03\x01")
# Some old encoders write 4 where they mean 3.
_DISPOSALS = {2: Disposal.CLEAR, 3: Disposal.RESTORE, 4: Disposal.RESTORE}
_HAS_COLOURS, _INTERLACED = 0x80, 0x40
_NO_CONTROL = bytes(4)


def decode_gif(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    layout = _Reader(data).read()
    boxes = [part.box for part in layout.parts]
    # Where the first frame reaches beyond the screen, the encoder forgot the screen.
    size = _reach([(0, 0, *layout.screen), boxes[0]])
    count = len(layout.parts)
    check_limits(Format.GIF, _reach([(0, 0, *size), *boxes]), count, limits)
    check_output(Format.GIF, size, count, processing, limits)
    frames = composed(size, "L" if layout.is_gray else "RGB", layout.parts)
    return Decoded(kind=Format.GIF, size=size, frames=frames, count=count, loops=layout.loops)


def _reach(boxes: Iterable[tuple[int, int, int, int]]) -> Size:
    _, _, rights, bottoms = zip(*boxes, strict=True)
    return max(rights), max(bottoms)


@dataclass(slots=True)
class _Layout:
    screen: Size
    loops: int = 1
    is_gray: bool = True
    parts: list[Part] = field(default_factory=list)


class _Reader:
    """From block to block to the trailer, without which the file is cut off."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        self._layout = _Layout(screen=(width, height))
        self._colours = self._colours_at(13, flags)
        self._control = _NO_CONTROL

    def read(self) -> _Layout:
        data, position = self._data, 13 + len(self._colours)
        while (block := data[position]) != _TRAILER:
            if block == _EXTENSION:
                position = self._take_extension(position)
            elif block == _FRAME:
                position = self._take_frame(position)
            elif block == _NOTHING:  # some encoders end a frame's data twice
                position += 1
            else:
                raise Damaged("something is between its blocks")
        if not self._layout.parts:
            raise Damaged("it has no frame")
        return self._layout

    def _take_extension(self, position: int) -> int:
        """→ where the next block is."""
        data, label = self._data, self._data[position + 1]
        if label == _GRAPHIC_CONTROL and data[position + 2] == len(_NO_CONTROL):
            self._control = data[position + 3 : position + 7]
        elif label == _APPLICATION and data.startswith(_LOOPING, position + 2):
            (again,) = struct.unpack_from("<H", data, position + 16)
            self._layout.loops = again + 1 if again else 0
        return self._after_blocks(position + 2)

    def _take_frame(self, position: int) -> int:
        """→ where the next block is."""
        x, y, width, height, flags = struct.unpack_from("<HHHHB", self._data, position + 1)
        if not width or not height:
            raise Damaged("a frame without pixels")
        own_colours = self._colours_at(position + 10, flags)
        colours = own_colours or self._colours
        start = position + 10 + len(own_colours)
        end = self._after_blocks(start + 1)
        control, self._control = self._control, _NO_CONTROL
        part = Part(
            box=(x, y, x + width, y + height),
            decoded=partial(_decoded, (width, height), flags, colours, control, memoryview(self._data)[start:end]),
            duration_ms=10 * int.from_bytes(control[1:3], "little"),
            disposal=_DISPOSALS.get(control[0] >> 2 & 7, Disposal.KEEP),
        )
        self._layout.parts.append(part)
        self._layout.is_gray &= colours[::3] == colours[1::3] == colours[2::3]
        return end

    def _colours_at(self, position: int, flags: int) -> bytes:
        return self._data[position : position + (3 << (flags & 7) + 1)] if flags & _HAS_COLOURS else b""

    def _after_blocks(self, position: int) -> int:
        while length := self._data[position]:
            position += 1 + length
        return position + 1


def _decoded(size: Size, flags: int, colours: bytes, control: bytes, pixels: memoryview) -> Image.Image:
    """From a file of this frame alone."""
    table = _HAS_COLOURS | (len(colours) // 3).bit_length() - 2 if colours else 0
    screen = struct.pack("<6sHHBBB", b"GIF89a", *size, table, 0, 0)
    header = struct.pack("<BBB4sBBHHHHB", _EXTENSION, _GRAPHIC_CONTROL, 4, control, 0, _FRAME, 0, 0, *size, flags & _INTERLACED)
    picture = GifImageFile(io.BytesIO(b"".join((screen, colours, header, pixels, bytes([_TRAILER])))))
    picture.load()
    return to_srgb(picture, None)
