"""PNG and APNG: from chunk to chunk to the end. Nothing is inflated: text and profiles may be as large as they like.

Source: PNG (third edition), section 5 (chunks), 11 (their contents), 11.3.2 (animation).
"""

import zlib
from collections.abc import Iterator

from common.formats import LONGEST_EXIF, orientation_in
from gateway.inspection.header import Header, HeaderBytes

# The depths of each colour type. Source: table 11.
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PALETTE = 3
# What a decoder must understand, and of the rest what has a say in the pixels. Everything else may be damaged: it is stripped.
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CHECKED = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL")
_EXIF = b"Exif\0\0"  # which some writers put before it, as in JPEG
_PIECE = 1 << 20


def read_png(data: HeaderBytes) -> Header:
    chunks = _chunks(data)
    chunk, at, length = next(chunks)
    if chunk != b"IHDR" or length != 13:
        raise data.damaged("it does not begin with IHDR")
    width, height, depth, colour_type, compression, filtering, interlace = data.unpack(">IIBBBBB", at)
    if depth not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise data.damaged("its depth, colour type or coding does not exist")
    data.check_size(width, height)
    animation, exif = _Animation(data, width, height), b""
    found: set[bytes] = set()
    for chunk, at, length in chunks:
        if chunk == b"IHDR" or (chunk == b"PLTE" and found):
            raise data.damaged(f"{chunk.decode()} is out of place")
        if chunk in _CRITICAL:
            found.add(chunk)
        elif chunk == b"eXIf":
            exif = data.take(at, min(length, len(_EXIF) + LONGEST_EXIF))
        animation.follow(chunk, at, length)
    if b"IDAT" not in found:
        raise data.damaged("there are no pixels")
    if colour_type == _PALETTE and b"PLTE" not in found:
        raise data.damaged("its palette is missing")
    return Header(width=width, height=height, frames=animation.frames(), orientation=orientation_in(exif))


def _chunks(data: HeaderBytes) -> Iterator[tuple[bytes, int, int]]:
    """→ each chunk up to IEND: its type, where its contents begin, and their length. Checks what decides how pixels are read."""
    at, chunk = 8, b""
    while chunk != b"IEND":
        length, chunk = data.unpack(">I4s", at)
        if not chunk.isalpha():
            raise data.damaged("the name of a chunk is none")
        if chunk[:1].isupper() and chunk not in _CRITICAL:
            raise data.damaged(f"nobody knows {chunk.decode()}, which it says is needed")
        (checksum,) = data.unpack(">I", at + 8 + length)
        if chunk in _CHECKED and checksum != _checksum(data, at + 4, length + 4):
            raise data.damaged(f"the checksum of {chunk.decode()} is wrong")
        yield chunk, at + 8, length
        at += 12 + length


def _checksum(data: HeaderBytes, at: int, length: int) -> int:
    value = 0
    for start in range(at, at + length, _PIECE):
        value = zlib.crc32(data.take(start, min(_PIECE, at + length - start)), value)
    return value


class _Animation:
    """What the chunks say about frames. Without one acTL before its pixels, and no other, a picture is still."""

    def __init__(self, data: HeaderBytes, width: int, height: int) -> None:
        self._data = data
        self._width, self._height = width, height
        self._claims: list[int] = []
        self._controls = 0
        self._sequence = 0
        self._pixels_begun = False
        self._is_first_whole = True

    def follow(self, chunk: bytes, at: int, length: int) -> None:
        if chunk == b"acTL":
            self._claims.append(0 if self._pixels_begun else self._data.unpack(">I", at)[0])
        elif chunk == b"IDAT":
            self._pixels_begun = True
            if self._is_animated() and not self._is_first_whole:
                raise self._data.damaged("its first frame is not the whole picture")
        elif chunk == b"fdAT" and self._is_animated():
            self._take_number(at)
        elif chunk == b"fcTL" and self._is_animated():
            self._take_number(at)
            self._take_control(at, length)

    def frames(self) -> int:
        """The picture for programs that know no animations may be none of them."""
        if not self._is_animated():
            return 1
        if self._controls != self._claims[0]:
            raise self._data.damaged(f"it promises {self._claims[0]} frames and has {self._controls}")
        return self._controls

    def _is_animated(self) -> bool:
        return len(self._claims) == 1 and self._claims[0] > 0

    def _take_control(self, at: int, length: int) -> None:
        width, height, x, y, disposal = self._data.unpack(">IIII4xB", at + 4)
        if length != 26 or not 0 < width <= self._width - x or not 0 < height <= self._height - y or disposal > 2:
            raise self._data.damaged("a frame reaches beyond the picture")
        self._controls += 1
        if not self._pixels_begun:
            self._is_first_whole = self._controls == 1 and (width, height) == (self._width, self._height)
        self._data.check_frames(self._width, self._height, self._controls)

    def _take_number(self, at: int) -> None:
        if self._data.unpack(">I", at) != (self._sequence,):
            raise self._data.damaged("its frames are out of order")
        self._sequence += 1
