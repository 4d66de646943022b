"""PNG, still and animated. Of each frame only the part is written that differs from the frame before, in place of what was there.

Source: PNG (third edition), section 11.3.2.
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction

from PIL import Image

from worker.decoding.intact import chunk_of, chunks_in, contents_of
from worker.decoding.picture import Frame
from worker.encoding.surface import changed_box

# Larger levels take several times the time for a few per cent of the size.
_COMPRESSION = 3
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEEP = _REPLACE = 0
_MOST = 65_535


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def encode_apng(frames: Iterator[Frame], count: int, loops: int) -> bytes:
    chunks: list[bytes] = []
    before: Image.Image | None = None
    sequence = 0
    for frame in frames:
        box = changed_box(before, frame.image)
        width, height = box[2] - box[0], box[3] - box[1]
        header, pixels = _header_and_pixels(encode_png(frame.image.crop(box)))
        place = struct.pack(">IIIII", sequence, width, height, *box[:2])
        control = chunk_of(b"fcTL", place, struct.pack(">HHBB", *_delay(frame.duration_ms), _KEEP, _REPLACE))
        if before is None:
            chunks += [header, chunk_of(b"acTL", struct.pack(">II", count, loops)), control, chunk_of(b"IDAT", pixels)]
            sequence += 1
        else:
            chunks += [control, chunk_of(b"fdAT", struct.pack(">I", sequence + 1), pixels)]
            sequence += 2
        before = frame.image
    return b"".join((_SIGNATURE, *chunks, chunk_of(b"IEND")))


def _header_and_pixels(png: bytes) -> tuple[bytes, bytes]:
    chunks = list(chunks_in(png))
    return bytes(chunks[0][1]), b"".join(contents_of(chunk) for kind, chunk in chunks if kind == b"IDAT")


def _delay(milliseconds: int) -> tuple[int, int]:
    """A fraction of a second, exact below 65 seconds."""
    for per_second in (1000, 100, 10):
        if milliseconds * per_second <= _MOST * 1000:
            return round(Fraction(milliseconds * per_second, 1000)), per_second
    return min(_MOST, round(milliseconds / 1000)), 1
