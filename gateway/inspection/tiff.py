"""TIFF: the first directory, which is the first page, and whether the file holds the pixels that it lists.

Of other pages only whether their directories are there. Fields that say nothing about pixels may be damaged. BigTIFF is another
format.
Source: TIFF 6.0, sections 2 (directories), 3 to 8 (fields) and 15 (tiles).
"""

import struct

from common.errors import TooLarge, UnsupportedMedia
from gateway.inspection.header import Header, HeaderBytes

# Kinds of numbers: bytes, short and long ones.
_LAYOUTS = {1: "B", 3: "H", 4: "I"}
_INLINE_BYTES = 4
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PLANES = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT, _CAMERA_RAW = 322, 323, 324, 325, 339, 50706
# None, fax (twice and group 4), LZW, JPEG, deflate (twice), PackBits.
_PLAIN, _JPEG = 1, 7
_COMPRESSIONS = (_PLAIN, 2, 3, 4, 5, _JPEG, 8, 32946, 32773)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_UNSIGNED, _FLOATING = 1, 3
# By what a pixel's colour is: how many samples make it, and which bits and kinds of number each may have.
_GRAY = (1, {(bits, _UNSIGNED) for bits in (1, 2, 4, 8, 16, 32)} | {(32, _FLOATING)})
_COLOURS = {
    _WHITE_IS_ZERO: _GRAY,
    _BLACK_IS_ZERO: _GRAY,
    _RGB: (3, {(8, _UNSIGNED), (16, _UNSIGNED)}),
    _PALETTE: (1, {(bits, _UNSIGNED) for bits in (1, 2, 4, 8)}),
    _CMYK: (4, {(8, _UNSIGNED), (16, _UNSIGNED)}),
    _YCBCR: (3, {(8, _UNSIGNED)}),
    _LAB: (3, {(8, _UNSIGNED)}),
}
_MOST_SAMPLES = 8
_APART = 2
_INSTEAD = "an uncompressed RGB TIFF with 8 bits a sample, or as PNG"


class _Directory:
    """The first one. Where a field stands twice, the first one counts."""

    def __init__(self, data: HeaderBytes) -> None:
        self._data = data
        self._order = "<" if data.take(0, 2) == b"II" else ">"
        self._fields: dict[int, tuple[int, int, int]] = {}
        (start,) = data.unpack(f"{self._order}I", 4)
        end = self._end(start)
        for entry in range(start + 2, end, 12):
            tag, kind, count = data.unpack(f"{self._order}HHI", entry)
            self._fields.setdefault(tag, (kind, count, entry + 8))
        self._check_further_pages(end)

    def _end(self, start: int) -> int:
        """→ where a directory says where the next one is."""
        (entries,) = self._data.unpack(f"{self._order}H", start)
        return int(start + 2 + 12 * entries)

    def _check_further_pages(self, end: int) -> None:
        """Nobody wants to see them, but where one is missing, the file was cut off. They may go round in circles."""
        seen: set[int] = set()
        while (start := self._data.unpack(f"{self._order}I", end)[0]) and start not in seen:
            seen.add(start)
            end = self._end(start)

    def __contains__(self, tag: int) -> bool:
        return tag in self._fields

    def numbers(self, tag: int, most: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The first ones, up to `most`."""
        if tag not in self._fields:
            return default
        kind, count, at = self._fields[tag]
        if kind not in _LAYOUTS:
            raise self._data.damaged(f"its field {tag} is no number")
        if count * struct.calcsize(_LAYOUTS[kind]) > _INLINE_BYTES:
            (at,) = self._data.unpack(f"{self._order}I", at)
        count = min(count, most)
        self._data.spend(count)
        return self._data.unpack(f"{self._order}{count}{_LAYOUTS[kind]}", at)

    def number(self, tag: int, default: int | None = None) -> int:
        for number in self.numbers(tag, 1):
            return number
        if default is None:
            raise self._data.damaged(f"its field {tag} is missing")
        return default

    def orientation(self) -> int:
        try:
            value = self.number(_ORIENTATION, 1)
        except UnsupportedMedia:
            return 1
        return value if 1 <= value <= 8 else 1


def read_tiff(data: HeaderBytes) -> Header:
    directory = _Directory(data)
    width, height = directory.number(_WIDTH), directory.number(_HEIGHT)
    data.check_size(width, height)
    if _CAMERA_RAW in directory:
        raise data.unsupported("the raw format of a camera (DNG)", "JPEG")
    samples, bits = _check_samples(data, directory)
    _check_pixels(data, directory, (width, height), samples, bits)
    return Header(width=width, height=height, orientation=directory.orientation())


def _check_samples(data: HeaderBytes, directory: _Directory) -> tuple[int, int]:
    """→ how many samples a pixel has, and how many bits each. The decoder has the last word on what goes together."""
    compression, photometric = directory.number(_COMPRESSION, _PLAIN), directory.number(_PHOTOMETRIC, _WHITE_IS_ZERO)
    if compression not in _COMPRESSIONS or (photometric == _YCBCR and compression not in (_PLAIN, _JPEG)):
        raise data.unsupported(f"compression {compression}", _INSTEAD)
    samples = directory.number(_SAMPLES, 1)
    colours, kinds = _COLOURS.get(photometric, (0, set()))
    if not colours or not colours <= samples <= _MOST_SAMPLES:
        raise data.unsupported(f"{samples} samples a pixel of colour space {photometric}", _INSTEAD)
    bits, formats = directory.numbers(_BITS, samples, (1,)), directory.numbers(_SAMPLE_FORMAT, samples, (_UNSIGNED,))
    if len(set(bits)) != 1 or len(set(formats)) != 1 or (bits[0], formats[0]) not in kinds:
        raise data.unsupported(f"samples of {bits} bits and kind {formats} in colour space {photometric}", _INSTEAD)
    return samples, bits[0]


def _check_pixels(data: HeaderBytes, directory: _Directory, size: tuple[int, int], samples: int, bits: int) -> None:
    """Whether the file holds every strip or tile, and each, where it is plain, as many bytes as it takes."""
    (width, height), is_tiled = size, _TILE_WIDTH in directory
    if is_tiled:
        columns, rows = directory.number(_TILE_WIDTH), directory.number(_TILE_HEIGHT)
    else:
        columns, rows = width, min(directory.number(_STRIP_ROWS, height), height)
    if not columns or not rows:
        raise data.damaged("its strips or tiles have no pixels")
    across, down = -(-width // columns), -(-height // rows)
    if across * columns * down * rows > data.limits.total_pixels:
        raise TooLarge(f"The TIFF's tiles have more than {data.limits.total_pixels} pixels. Save it with smaller ones.")
    planes = samples if directory.number(_PLANES, 1) == _APART else 1
    pieces = across * down * planes
    offsets = directory.numbers(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, pieces)
    lengths = directory.numbers(_TILE_BYTES if is_tiled else _STRIP_BYTES, pieces)
    if pieces == len(offsets) == 1 and not lengths:
        lengths = (max(0, data.size - offsets[0]),)
    if min(len(offsets), len(lengths)) < pieces:
        raise data.damaged("it does not say where all of its pixels are")
    row_bytes, last_rows = (columns * bits * samples // planes + 7) // 8, rows if is_tiled else height - rows * (down - 1)
    # YCbCr may have fewer samples of colour than of lightness.
    is_plain = directory.number(_COMPRESSION, _PLAIN) == _PLAIN and directory.number(_PHOTOMETRIC, _WHITE_IS_ZERO) != _YCBCR
    for piece, (offset, length) in enumerate(zip(offsets, lengths, strict=True), 1):
        wanted = row_bytes * (rows if piece % down else last_rows) if is_plain else 1
        if length < wanted or offset + length > data.size:
            raise data.cut_off()
