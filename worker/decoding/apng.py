"""What makes a PNG an animation: which pixels are a frame's, where it belongs and for how long. The picture for programs that know
no animations is left out where it is none of the frames.

Source: PNG (third edition), section 4.9 and 11.3.2.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from PIL import Image

from common.processing import Size
from worker.decoding.canvas import Disposal, Part
from worker.decoding.intact import Damaged, contents_of

SEQUENCED = (b"acTL", b"fcTL", b"IDAT", b"fdAT")
"""The chunks whose order matters, and of which there may be many."""

Chunks = Sequence[tuple[bytes, memoryview]]
Decode = Callable[[Size, list[memoryview]], Image.Image]
"""From a picture's size and the contents of its IDATs to its pixels."""

_DISPOSALS = {0: Disposal.KEEP, 1: Disposal.CLEAR, 2: Disposal.RESTORE}
_REPLACES = 0


@dataclass(frozen=True, slots=True)
class Animation:
    parts: list[Part]
    loops: int


def read_animation(chunks: Chunks, size: Size, decode: Decode) -> Animation | None:
    """None for a still picture. `chunks`: those that are SEQUENCED."""
    kinds = [kind for kind, _ in chunks]
    if kinds.count(b"acTL") != 1 or kinds.index(b"acTL") > kinds.index(b"IDAT"):
        return None
    count, loops = struct.unpack(">II", contents_of(chunks[kinds.index(b"acTL")][1]))
    if not count:
        return None
    parts = _Reader(size, decode).read(chunks)
    if len(parts) != count:
        raise Damaged("it has not as many frames as it promises")
    return Animation(parts, loops)


class _Reader:
    def __init__(self, size: Size, decode: Decode) -> None:
        self._size = size
        self._decode = decode
        self._numbers = 0
        self._time = Fraction()

    def read(self, chunks: Chunks) -> list[Part]:
        parts: list[Part] = []
        pixels: list[memoryview] = []
        for kind, chunk in chunks:
            contents = contents_of(chunk)
            if kind == b"fcTL":
                self._check_number(contents)
                pixels = []
                parts.append(self._part(contents, pixels))
            elif kind == b"IDAT":
                pixels.append(contents)
                if parts and (len(parts) > 1 or parts[0].box != (0, 0, *self._size)):
                    raise Damaged("its first frame is not the whole picture")
            elif kind == b"fdAT":
                self._check_number(contents)
                pixels.append(contents[4:])
        return parts

    def _check_number(self, contents: memoryview) -> None:
        if struct.unpack_from(">I", contents) != (self._numbers,):
            raise Damaged("its frames are out of order")
        self._numbers += 1

    def _part(self, control: memoryview, pixels: list[memoryview]) -> Part:
        """The pixels are still to come."""
        _, width, height, x, y, delay, per_second, disposal, blending = struct.unpack(">IIIIIHHBB", control)
        if not 0 < width <= self._size[0] - x or not 0 < height <= self._size[1] - y or disposal not in _DISPOSALS:
            raise Damaged("a frame reaches beyond the picture")
        return Part(
            box=(x, y, x + width, y + height),
            decoded=partial(self._decode, (width, height), pixels),
            duration_ms=self._rounded(Fraction(1000 * delay, per_second or 100)),
            disposal=_DISPOSALS[disposal],
            replaces=blending == _REPLACES,
        )

    def _rounded(self, milliseconds: Fraction) -> int:
        """What one frame lost the next one gets, so that the animation is as long as it was."""
        before = round(self._time)
        self._time += milliseconds
        return round(self._time) - before
