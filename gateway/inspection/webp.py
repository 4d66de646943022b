"""WebP: the container and the first bytes of each picture in it, by the rules of libwebp's demuxer.

Source: RFC 9649, section 2 (container) and 3.4 (lossless header); RFC 6386, section 9.1 (lossy header).
"""

from collections.abc import Iterator

from common.formats import LONGEST_EXIF, orientation_in
from gateway.inspection.header import Header, HeaderBytes

_HAS_ANIMATION, _HAS_EXIF = 0x02, 0x08
_LOSSY, _LOSSLESS = b"VP8 ", b"VP8L"
_FRAME_HEADER_BYTES = 16


def read_webp(data: HeaderBytes) -> Header:
    (riff_bytes,) = data.unpack("<I", 4)
    end = 8 + riff_bytes
    if end > data.size:
        raise data.cut_off()
    chunk, at, length = next(_chunks(data, 12, end), (b"", 0, 0))
    if chunk in (_LOSSY, _LOSSLESS):
        width, height = _picture_size(data, chunk, at, length)
        return Header(width=width, height=height)
    if chunk != b"VP8X" or length < 10:
        raise data.damaged("it does not begin with a picture")
    return _read_extended(data, at, _chunks(data, at + length + length % 2, end))


def _read_extended(data: HeaderBytes, at: int, chunks: Iterator[tuple[bytes, int, int]]) -> Header:
    (flags,) = data.unpack("B", at)
    width, height = _number24(data, at + 4) + 1, _number24(data, at + 7) + 1
    data.check_size(width, height)
    is_animated, frames, exif, begun = bool(flags & _HAS_ANIMATION), 0, b"", False
    for chunk, at, length in chunks:
        if chunk == b"EXIF" and flags & _HAS_EXIF and not exif:
            exif = data.take(at, min(length, LONGEST_EXIF))
        elif chunk == b"ANIM":
            begun = True
        elif chunk == b"ANMF":
            if not is_animated or not begun:
                raise data.damaged("it has frames and no animation")
            _check_frame(data, at, length, (width, height))
            frames += 1
            data.check_frames(width, height, frames)
        elif chunk in (_LOSSY, _LOSSLESS):
            if is_animated or frames or _picture_size(data, chunk, at, length) != (width, height):
                raise data.damaged("its picture is not the one that it announces")
            frames = 1
    if not frames:
        raise data.damaged("there is no picture in it")
    return Header(width=width, height=height, frames=frames, orientation=orientation_in(exif))


def _check_frame(data: HeaderBytes, at: int, length: int, canvas: tuple[int, int]) -> None:
    x, y = 2 * _number24(data, at), 2 * _number24(data, at + 3)
    size = _number24(data, at + 6) + 1, _number24(data, at + 9) + 1
    if length < _FRAME_HEADER_BYTES or x + size[0] > canvas[0] or y + size[1] > canvas[1]:
        raise data.damaged("a frame reaches beyond the picture")
    for chunk, inside, inside_length in _chunks(data, at + _FRAME_HEADER_BYTES, at + length):
        if chunk in (_LOSSY, _LOSSLESS):
            if _picture_size(data, chunk, inside, inside_length) != size:
                raise data.damaged("a frame is not as large as it says")
            return
    raise data.damaged("a frame is empty")


def _picture_size(data: HeaderBytes, chunk: bytes, at: int, length: int) -> tuple[int, int]:
    if chunk == _LOSSLESS:
        signature, bits = data.unpack("<BI", at)
        if length < 5 or signature != 0x2F or bits >> 29:
            raise data.damaged("its lossless picture makes no sense")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        tag, tag_high, start, width, height = data.unpack("<HB3sHH", at)
        first_part_bytes = (tag | tag_high << 16) >> 5
        # Not a key frame, an unknown profile, or not to be shown.
        if length < 10 or tag & 0x1 or tag & 0xE > 0x6 or not tag & 0x10 or start != b"\x9d\x01\x2a" or first_part_bytes >= length:
            raise data.damaged("its lossy picture makes no sense")
        width, height = width & 0x3FFF, height & 0x3FFF
    data.check_size(width, height)
    return width, height


def _chunks(data: HeaderBytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """→ each chunk up to `end`: its name, where its contents begin, and their length."""
    while at < end:
        chunk, length = data.unpack("<4sI", at)
        if at + 8 + length > end:
            raise data.damaged("a part of it is longer than the whole")
        yield chunk, at + 8, length
        at += 8 + length + length % 2


def _number24(data: HeaderBytes, at: int) -> int:
    low, high = data.unpack("<HB", at)
    return int(low | high << 16)
