"""Files put together by hand, to claim what they do not hold or to hold more than anybody should look at.

Unless their name says otherwise, the functions make small sound files as long as they are not asked for something else, so that a
test breaks one thing at a time. `UPLOAD` is the largest upload that is taken. For plain PNGs and JPEGs see tests/pictures.py.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence

from tests.pictures import PNG_SIGNATURE, chunk, jpeg_segment, photo_jpeg

UPLOAD = 10 << 20
Size = tuple[int, int]
Box = tuple[int, int, int, int]
"""x, y, width and height."""


def filled(head: bytes, piece: bytes, tail: bytes = b"") -> bytes:
    """As large as an upload may be, by repeating the piece."""
    return head + piece * ((UPLOAD - len(head) - len(tail)) // len(piece)) + tail


# ---- JPEG


def jpeg_with_frame(
    size: Size = (16, 16), *, marker: int = 0xC0, bits: int = 8, samplings: Sequence[int] = (0x22, 0x11, 0x11)
) -> bytes:
    """A picture of 16 × 16 whose frame header says something else: another size, way of coding, depth, or sampling by component."""
    whole = photo_jpeg(16, 16)
    start = whole.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", whole, start + 2)
    components = b"".join(bytes((number, sampling, min(number, 2) - 1)) for number, sampling in enumerate(samplings, 1))
    frame = struct.pack(">BHHB", bits, size[1], size[0], len(samplings)) + components
    return whole[:start] + jpeg_segment(marker, frame) + whole[start + 2 + length :]


# ---- PNG


def apng(
    size: Size,
    frames: Sequence[Box],
    *,
    promised: int | None = None,
    hidden_first: bool = False,
    disposal: int = 0,
    numbers: Iterable[int] = range(1 << 30),
) -> bytes:
    """Black. `promised`: how many frames it says it has; `hidden_first`: the still picture is none; `numbers`: of its parts."""
    counting = iter(numbers)
    parts = [
        PNG_SIGNATURE,
        chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)),
        chunk(b"acTL", struct.pack(">II", len(frames) if promised is None else promised, 0)),
    ]
    if hidden_first:
        parts.append(chunk(b"IDAT", _gray_rows(size)))
    for place, (x, y, width, height) in enumerate(frames):
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", next(counting), width, height, x, y, 1, 10, disposal, 0)))
        if place or hidden_first:
            parts.append(chunk(b"fdAT", struct.pack(">I", next(counting)) + _gray_rows((width, height))))
        else:
            parts.append(chunk(b"IDAT", _gray_rows((width, height))))
    return b"".join((*parts, chunk(b"IEND")))


def png_bomb(size: Size) -> bytes:
    """All of its pixels are there, a thousand to the byte."""
    return b"".join(
        (
            PNG_SIGNATURE,
            chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)),
            chunk(b"IDAT", _gray_rows(size)),
            chunk(b"IEND"),
        )
    )


def metadata_bomb(kind: bytes, inflated_bytes: int) -> bytes:
    """A chunk iCCP, zTXt or iTXt that inflates to as many bytes."""
    head = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
    return chunk(kind, head + zlib.compress(bytes(inflated_bytes)))


def _gray_rows(size: Size) -> bytes:
    return zlib.compress(bytes((size[0] + 1) * size[1]))


# ---- GIF


def gif(screen: Size, frames: Sequence[Box], *, before: bytes = b"", trailer: bytes = b";") -> bytes:
    """Black. `before`: blocks between the screen and the first frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + before + b"".join(gif_frame(box) for box in frames) + trailer


def gif_frame(box: Box, pixels: int | None = None) -> bytes:
    """`pixels`: how many it really has, where that is not all of them."""
    count = box[2] * box[3] if pixels is None else pixels
    # Codes of three bits: 4 starts the table anew, so that it never grows to codes of four.
    bits = "".join(f"{code:03b}"[::-1] for code in [4, 0] * count + [5])
    data = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes((len(data[at : at + 255]),)) + data[at : at + 255] for at in range(0, len(data), 255))
    return b"," + struct.pack("<HHHHB", *box, 0) + b"\2" + blocks + b"\0"


def gif_bomb(size: Size, frames: int) -> bytes:
    """As many frames of that size, each of a single pixel."""
    return gif(size, [], trailer=gif_frame((0, 0, *size), pixels=1) * frames + b";")


# ---- WebP


def webp(*chunks: bytes, riff_bytes: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if riff_bytes is None else riff_bytes) + body


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def webp_picture(size: Size) -> bytes:
    """A lossless chunk that holds all of its pixels: they are of one colour, which takes no bits at all. Thirty bytes, up to 16,384
    pixels a side. Source: RFC 9649, sections 3.4 and 3.7.2.1.1 (a code of a single symbol)."""
    # No transform, no colour cache, no meta prefix codes, and five codes of the symbol 0 alone.
    bits = (size[0] - 1) | (size[1] - 1) << 14 | 1 << 28 | sum(1 << 3 + 4 * code for code in range(5)) << 32
    return riff_chunk(b"VP8L", b"\x2f" + bits.to_bytes(8, "little"))


def webp_canvas(size: Size, flags: int = 0) -> bytes:
    """The chunk VP8X. Flags: 0x02 animation, 0x08 EXIF."""
    return riff_chunk(b"VP8X", struct.pack("<I", flags) + _number24(size[0] - 1) + _number24(size[1] - 1))


def webp_frame(box: Box, picture: bytes | None = None) -> bytes:
    """The chunk ANMF. x and y are even."""
    x, y, width, height = box
    numbers = b"".join(_number24(number) for number in (x // 2, y // 2, width - 1, height - 1, 100))
    return riff_chunk(b"ANMF", numbers + b"\0" + (webp_picture((width, height)) if picture is None else picture))


def animated_webp(canvas: Size, frames: Sequence[Box]) -> bytes:
    return webp(webp_canvas(canvas, 0x02), riff_chunk(b"ANIM", bytes(6)), *(webp_frame(box) for box in frames))


def _number24(number: int) -> bytes:
    return number.to_bytes(3, "little")


# ---- TIFF

Field = tuple[int, int, int, int]
"""Tag, kind (3 is short, 4 is long), how many values, and the value or where they are."""


def tiff(
    size: Size = (6, 4), *, order: str = "<", fields: Sequence[Field] = (), pixels: bytes | None = None, next_page: int = 0
) -> bytes:
    """Gray, in one strip in front of the directory. `fields`: take the place of its own, or come on top."""
    pixels = bytes(size[0] * size[1]) if pixels is None else pixels
    own = [
        (256, 4, 1, size[0]),
        (257, 4, 1, size[1]),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
    ]
    own += [(278, 4, 1, size[1]), (279, 4, 1, len(pixels))]
    replaced = {field[0] for field in fields}
    whole = sorted([field for field in own if field[0] not in replaced] + list(fields), key=lambda field: field[0])
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(pixels))
    count = struct.pack(f"{order}H", len(whole))
    return head + pixels + count + b"".join(_tiff_entry(order, field) for field in whole) + struct.pack(f"{order}I", next_page)


def _tiff_entry(order: str, field: Field) -> bytes:
    tag, kind, count, value = field
    inline = struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value)
    return struct.pack(f"{order}HHI", tag, kind, count) + inline


def tiff_bomb(size: Size) -> bytes:
    """All of its pixels are there, deflated."""
    pixels = zlib.compress(bytes(size[0] * size[1]))
    return tiff(size, fields=[(259, 3, 1, 8)], pixels=pixels)


def tiff_of_many_fields(count: int) -> bytes:
    """Up to 65,000, each claiming nearly 4 GiB at the same place."""
    return tiff(fields=[(40_000 + number % 10_000, 7, 0xFFFFFF00, 8) for number in range(count)])


def tiff_in_a_circle() -> bytes:
    """Whose only page comes after itself."""
    return tiff(next_page=8 + 6 * 4)


# ---- BMP


def bmp(
    size: Size = (6, 4),
    *,
    depth: int = 24,
    compression: int = 0,
    header_bytes: int = 40,
    colours: int = 0,
    palette: bytes = b"",
    masks: Sequence[int] = (),
    pixels: bytes | None = None,
    pixels_at: int | None = None,
) -> bytes:
    """Black. `masks`: red, green, blue and alpha, behind the first 40 bytes of the header. With 12 bytes it is OS/2's."""
    width, height = size
    pixels = bytes((width * depth + 31) // 32 * 4 * abs(height)) if pixels is None else pixels
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, depth)
    else:
        header = struct.pack("<IiiHHIIiiII", header_bytes, width, height, 1, depth, compression, 0, 0, 0, colours, 0)
        header += struct.pack(f"<{len(masks)}I", *masks)
        header = header.ljust(header_bytes, b"\0")
    start = 14 + len(header) + len(palette) if pixels_at is None else pixels_at
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(palette) + len(pixels), 0, 0, start) + header + palette + pixels


def bmp_bomb(size: Size) -> bytes:
    """Run-length coded: four bytes a row and 255 pixels."""
    row = bytes((255, 0)) * (size[0] // 255) + bytes((size[0] % 255 or 1, 0, 0, 0))
    return bmp(size, depth=8, compression=1, palette=bytes(1024), pixels=row * size[1] + b"\0\1")
