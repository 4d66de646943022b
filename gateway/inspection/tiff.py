"""TIFF: the first directory, which is the first page, and whether the file holds the pixels that it lists.

Nothing is followed from there: not to the next page, not to other directories. BigTIFF is another format.
Source: TIFF 6.0, section 2 (directories), 3 to 8 (fields) and 15 (tiles); Pillow's tables of the compressions and pixel layouts
that it decodes, which are all that is used of it.
"""

from collections.abc import Iterable
from itertools import zip_longest

from PIL.TiffImagePlugin import COMPRESSION_INFO, OPEN_INFO

from gateway.inspection.header import Header, HeaderBytes

_SHORT, _LONG = 3, 4
_TYPE_BYTES = {1: 1, 2: 1, _SHORT: 2, _LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PLANES = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 322, 323, 324, 325, 338, 339
_OLD_JPEG_OFFSET, _CAMERA_RAW = 513, 50706
_UNCOMPRESSED, _OLD_JPEG = 1, 6
_YCBCR = 6
_APART = 2
_MOST_SAMPLES = 64
_INSTEAD = "an uncompressed RGB TIFF with 8 bits a sample, or as PNG"


class _Directory:
    """The first one: its fields, whose values all lie within the file and take no more bytes than it has."""

    def __init__(self, data: HeaderBytes) -> None:
        self._data = data
        self.order = "<" if data.take(0, 2) == b"II" else ">"
        self._fields: dict[int, tuple[int, int, int]] = {}
        (at,) = data.unpack(f"{self.order}I", 4)
        (entries,) = data.unpack(f"{self.order}H", at)
        end = at + 2 + 12 * entries
        total_bytes = 0
        for entry in range(at + 2, end, 12):
            tag, kind, count, value = data.unpack(f"{self.order}HHII", entry)
            value_bytes = _TYPE_BYTES.get(kind, 0) * count
            value_at = value if value_bytes > 4 else entry + 8
            total_bytes += value_bytes
            if value_at + value_bytes > data.size:
                raise data.cut_off()
            if tag in self._fields or total_bytes > data.size:
                raise data.damaged("its fields come twice or overlap")
            if value_bytes:
                self._fields[tag] = kind, count, value_at
        data.take(end, 4)  # where the next directory is

    def __contains__(self, tag: int) -> bool:
        return tag in self._fields

    def numbers(self, tag: int, most: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Up to `most`."""
        if tag not in self._fields:
            return default
        kind, count, at = self._fields[tag]
        if kind not in (_SHORT, _LONG):
            raise self._data.damaged(f"its field {tag} is not a number")
        count = min(count, most)
        self._data.spend(count)
        return self._data.unpack(f"{self.order}{count}{'H' if kind == _SHORT else 'I'}", at)

    def number(self, tag: int, default: int | None = None) -> int:
        for number in self.numbers(tag, 1):
            return number
        if default is None:
            raise self._data.damaged(f"its field {tag} is missing")
        return default

    def orientation(self) -> int:
        kind, _, _ = self._fields.get(_ORIENTATION, (0, 0, 0))
        value = self.number(_ORIENTATION) if kind in (_SHORT, _LONG) else 1
        return value if 1 <= value <= 8 else 1


def read_tiff(data: HeaderBytes) -> Header:
    directory = _Directory(data)
    width, height = directory.number(_WIDTH), directory.number(_HEIGHT)
    data.check_size(width, height)
    if _CAMERA_RAW in directory:
        raise data.unsupported("a camera's raw format (DNG), of which it shows a preview", "JPEG, or develop it to TIFF,")
    bits = _sample_bits(data, directory)
    _check_pixels(data, directory, (width, height), bits)
    return Header(width=width, height=height, orientation=directory.orientation())


def _sample_bits(data: HeaderBytes, directory: _Directory) -> tuple[int, ...]:
    """How many bits each sample of a pixel has. Checks that Pillow knows the layout, and asks its table the way that it does."""
    compression = directory.number(_COMPRESSION, _UNCOMPRESSED)
    if compression not in COMPRESSION_INFO:
        raise data.unsupported(f"compression {compression}", _INSTEAD)
    photometric = _YCBCR if compression == _OLD_JPEG else directory.number(_PHOTOMETRIC, 0)
    samples = directory.number(_SAMPLES, 3 if compression == _OLD_JPEG else 1)
    bits = directory.numbers(_BITS, _MOST_SAMPLES, (1,))
    bits = bits * samples if len(bits) == 1 and samples <= _MOST_SAMPLES else bits[:samples]
    formats = directory.numbers(_SAMPLE_FORMAT, _MOST_SAMPLES, (1,))
    formats = (1,) if set(formats) == {1} else formats
    extra = directory.numbers(_EXTRA_SAMPLES, _MOST_SAMPLES)
    prefix = b"II" if directory.order == "<" else b"MM"
    layout = (prefix, photometric, formats, directory.number(_FILL_ORDER, 1), bits, extra)
    if not bits:
        raise data.damaged("its pixels have no samples")
    if len(bits) != samples or layout not in OPEN_INFO:
        raise data.unsupported(f"{samples} samples a pixel, of {bits[0]} bits, in an unusual layout", _INSTEAD)
    return bits


def _check_pixels(data: HeaderBytes, directory: _Directory, size: tuple[int, int], bits: tuple[int, ...]) -> None:
    """Whether the file holds every strip or tile: as much as it takes where the pixels are plain, else as much as it is said to."""
    compression = directory.number(_COMPRESSION, _UNCOMPRESSED)
    if compression == _OLD_JPEG and _OLD_JPEG_OFFSET in directory:
        data.take(directory.number(_OLD_JPEG_OFFSET), 1)
        return
    (width, height), is_tiled = size, _TILE_WIDTH in directory
    if is_tiled:
        columns, rows = directory.number(_TILE_WIDTH), directory.number(_TILE_HEIGHT)
    else:
        columns, rows = width, min(directory.number(_STRIP_ROWS, height), height)
    if not columns or not rows:
        raise data.damaged("its strips or tiles have no pixels")
    is_apart = directory.number(_PLANES, 1) == _APART
    down = -(-height // rows)
    pieces = -(-width // columns) * down * (len(bits) if is_apart else 1)
    offsets = directory.numbers(_TILE_OFFSETS if is_tiled else _STRIP_OFFSETS, pieces)
    if len(offsets) < pieces:
        raise data.damaged("it does not say where all of its pixels are")
    lengths: Iterable[int] = directory.numbers(_TILE_BYTES if is_tiled else _STRIP_BYTES, pieces)
    if compression == _UNCOMPRESSED and directory.number(_PHOTOMETRIC, 0) != _YCBCR:  # whose colours may have fewer pixels
        row_bytes = (columns * (bits[0] if is_apart else sum(bits)) + 7) // 8
        last_rows = rows if is_tiled else height - rows * (down - 1)
        lengths = (row_bytes * (rows if (piece + 1) % down else last_rows) for piece in range(pieces))
    if any(offset + length > data.size for offset, length in zip_longest(offsets, lengths, fillvalue=1)):
        raise data.cut_off()
