"""Picture files for tests, the same ones for the same seed. Photo-like: gradients, shapes and noise at several scales."""

import io
import random
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageDraw

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED = Path(__file__).parent / "data" / "pictures"


def stored(name: str) -> bytes:
    """A file that another program made; see tests/data/pictures/README.md."""
    return (_STORED / name).read_bytes()


def all_stored(*suffixes: str) -> list[str]:
    return sorted(path.name for path in _STORED.iterdir() if path.suffix in suffixes)


def photo(width: int, height: int, seed: int = 1) -> Image.Image:
    """RGB. Hard-edged shapes over noise at scales from an eighth of the picture down to two pixels, the finer the weaker; muted
    colours, as in photos."""
    dice = random.Random(seed)
    picture = Image.new("RGB", (width, height), (128, 128, 128))
    cells, contrast = 8, 0.7
    while cells <= max(8, min(width, height) // 2):
        rows = max(1, cells * height // width)
        noise = Image.frombytes("RGB", (cells, rows), dice.randbytes(cells * rows * 3))
        muted = Image.blend(noise.convert("L").convert("RGB"), noise, 0.4).resize((width, height), Image.Resampling.BICUBIC)
        picture = ImageChops.add(
            picture, muted.point([round(level * contrast) for level in range(256)] * 3), offset=round(-128 * contrast)
        )
        if cells == 8:
            _draw_shapes(picture, dice)
        cells, contrast = cells * 4, contrast / 2.5
    return picture


def _draw_shapes(picture: Image.Image, dice: random.Random) -> None:
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    for _ in range(12):
        x, y, radius = dice.randrange(width), dice.randrange(height), dice.randrange(1, max(2, min(width, height) // 6))
        box = (x - radius, y - radius, x + radius, y + radius)
        colour = (dice.randrange(40, 216), dice.randrange(40, 216), dice.randrange(40, 216))
        dice.choice((draw.ellipse, draw.rectangle))(box, fill=colour)


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **({"quality": 90} | options))
    return buffer.getvalue()


def png(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **({"compress_level": 1} | options))
    return buffer.getvalue()


def photo_jpeg(width: int, height: int, seed: int = 1) -> bytes:
    return jpeg(photo(width, height, seed))


def photo_png(width: int, height: int, seed: int = 1) -> bytes:
    return png(photo(width, height, seed))


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One PNG chunk, checksum included."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(
    width: int, height: int, depth: int, colour_type: int, rows: bytes, before: bytes = b"", after: bytes = b"", interlace: int = 0
) -> bytes:
    """A PNG put together by hand. `rows` is what is compressed, filter bytes included; `before`, `after`: chunks around it."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + before + pixels + after + chunk(b"IEND")


def huge_header_png(width: int, height: int) -> bytes:
    """Claims its size and holds next to nothing."""
    return raw_png(width, height, 8, 2, b"\0" * 64)


def exif_block(orientation: int, order: str = ">") -> bytes:
    """A TIFF structure with one entry, as it stands in PNG's eXIf and, behind a prefix, in JPEG's APP1."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def with_segments(whole: bytes, *segments: bytes) -> bytes:
    """The JPEG with more segments right behind its first marker."""
    return whole[:2] + b"".join(segments) + whole[2:]


def with_exif(whole: bytes, exif: bytes) -> bytes:
    """The JPEG with an EXIF block, in pieces where it is longer than one segment."""
    pieces = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    return with_segments(whole, *(jpeg_segment(0xE1, b"Exif\0\0" + piece) for piece in pieces))


def exif_bomb() -> bytes:
    """A few hundred kilobytes whose 5,000 entries each claim nearly all of the block: gigabytes for whoever follows them."""
    size = 400_000
    entries = b"".join(struct.pack(">HHII", 0x8000 + tag, 7, size - 70_000, 65_000) for tag in range(5000))
    return (b"MM\0*" + struct.pack(">IH", 8, 5000) + entries).ljust(size, b"\0")


def swapped_profile() -> bytes:
    """An ICC profile for RGB in which red and green have changed places, so that ignoring it cannot go unnoticed."""
    data, tags = _srgb_profile(b"swap")
    data[tags[b"rXYZ"] : tags[b"rXYZ"] + 4], data[tags[b"gXYZ"] : tags[b"gXYZ"] + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def linear_profile(space: bytes = b"RGB ") -> bytes:
    """An ICC profile whose levels are proportional to light; `space` may be GRAY."""
    data, tags = _srgb_profile(b"line")
    (curve,) = struct.unpack_from(">I", data, tags[b"rTRC"] + 4)
    data[curve : curve + 14] = b"curv" + struct.pack(">IIH", 0, 1, 0x0100)
    data[16:20] = space
    if space == b"GRAY":
        data[tags[b"rTRC"] : tags[b"rTRC"] + 4] = b"kTRC"
    return bytes(data)


def _srgb_profile(name: bytes) -> tuple[bytearray, dict[bytes, int]]:
    """→ sRGB under another four-letter name, and where each tag's entry is. Source: ICC.1:2022, section 7.3 (tag table)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data = data.replace("sRGB".encode("utf-16-be"), name.decode().encode("utf-16-be"))
    (count,) = struct.unpack_from(">I", data, 128)
    return data, {bytes(data[entry : entry + 4]): entry for entry in range(132, 132 + 12 * count, 12)}


def tiff_file(
    fields: Mapping[int, tuple[int, ...]], *pieces: bytes, order: str = "<", places: tuple[int, int] = (273, 279)
) -> bytes:
    """A TIFF put together by hand: the strips (or tiles, with their own two tags for `places`), one behind the other, and then the
    directory. All numbers are longs, which every reader must take. Source: TIFF 6.0, section 2."""
    offsets = tuple(8 + sum(len(piece) for piece in pieces[:number]) for number in range(len(pieces)))
    tags = sorted(({places[0]: offsets, places[1]: tuple(map(len, pieces))} | dict(fields)).items())
    start = 8 + sum(map(len, pieces))
    entries, values, values_at = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, numbers in tags:
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack(f"{order}I", values_at + len(values)), values + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return mark + struct.pack(f"{order}I", start) + b"".join(pieces) + directory + values
