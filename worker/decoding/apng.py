"""Animated PNG. The picture for programs that know no animations is left out where it is none of the frames."""

import io
import struct
from collections.abc import Iterator, Sequence

from PIL.PngImagePlugin import PngImageFile

from common.formats import Format, Limits, upright_size
from common.processing import Processing
from worker.decoding.colour import profile_in, to_srgb, without_useless_alpha
from worker.decoding.intact import Damaged, check_inflates, contents_of
from worker.decoding.picture import Decoded, Frame, check_limits, check_output, turned_upright

Chunks = Sequence[tuple[bytes, memoryview]]


def decode_apng(
    png: bytes, chunks: Chunks, bits_per_pixel: int, profile: bytes | None, orientation: int, processing: Processing, limits: Limits
) -> Decoded:
    """`png`: the file without its metadata; `chunks`: what it consists of, in order."""
    picture = PngImageFile(io.BytesIO(png))
    count = sum(kind == b"fcTL" for kind, _ in chunks)
    if struct.unpack_from(">I", contents_of(dict(chunks)[b"acTL"])) != (count,) or not count:
        raise Damaged("it has not the frames that it promises")
    check_limits(Format.PNG, picture.size, count, limits)
    _check_frames(chunks, bits_per_pixel, interlaced=bool(picture.info.get("interlace")))
    upright = upright_size(*picture.size, orientation)
    check_output(Format.PNG, upright, count, processing, limits)
    frames = _frames(picture, count, profile, orientation)
    return Decoded(kind=Format.PNG, size=upright, frames=frames, count=count, loops=picture.info.get("loop", 0))


def _frames(picture: PngImageFile, count: int, profile: bytes | None, orientation: int) -> Iterator[Frame]:
    first = 1 if picture.default_image else 0
    for number in range(first, first + count):
        picture.seek(number)
        duration = picture.info.get("duration", 0)
        picture.load()
        image = turned_upright(to_srgb(picture.copy(), profile_in(profile)), orientation)
        yield Frame(image=without_useless_alpha(image), duration_ms=round(duration))


def _check_frames(chunks: Chunks, bits_per_pixel: int, *, interlaced: bool) -> None:
    """Pillow fills up what a frame lacks."""
    size: tuple[int, int] | None = None
    pixels: list[memoryview] = []
    for kind, chunk in (*chunks, (b"fcTL", memoryview(bytes(38)))):
        if kind == b"fcTL":
            if size is not None:
                check_inflates(size, bits_per_pixel, pixels, interlaced=interlaced)
            size, pixels = struct.unpack_from(">II", contents_of(chunk), 4), []
        elif kind == b"IDAT":
            pixels.append(contents_of(chunk))
        elif kind == b"fdAT":
            pixels.append(contents_of(chunk)[4:])
