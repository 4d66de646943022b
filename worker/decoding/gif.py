"""GIF, still and animated. Frames are composed as they are shown, one upon the other."""

import io
import struct
from collections.abc import Iterator

from PIL.GifImagePlugin import GifImageFile

from common.formats import Format, Limits
from common.processing import Processing
from worker.decoding.colour import foreign_profile, to_srgb, without_useless_alpha
from worker.decoding.intact import Damaged
from worker.decoding.picture import Decoded, Frame, check_limits, check_output

_TRAILER, _EXTENSION, _FRAME = 0x3B, 0x21, 0x2C


def decode_gif(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    count = _frames_in(data)
    picture = GifImageFile(io.BytesIO(data))
    check_limits(Format.GIF, picture.size, count, limits)
    check_output(Format.GIF, picture.size, count, processing, limits)
    # The file counts how often it is shown again, and has no count where it is not.
    again = picture.info.get("loop")
    loops = 1 if again is None else again + 1 if again else 0
    return Decoded(kind=Format.GIF, size=picture.size, frames=_frames(picture, count), count=count, loops=loops)


def _frames(picture: GifImageFile, count: int) -> Iterator[Frame]:
    size = picture.size
    for number in range(count):
        picture.seek(number)
        picture.load()
        if picture.size != size:
            raise Damaged("a frame reaches beyond the picture")
        image = to_srgb(picture.convert("RGBA"), foreign_profile(picture))
        yield Frame(image=without_useless_alpha(image), duration_ms=picture.info.get("duration", 0))


def _frames_in(data: bytes) -> int:
    """Follows the blocks to the trailer: Pillow would stop at the first broken one, and call that the end.
    Source: GIF89a specification, sections 18 to 27."""
    flags = data[10]
    position, frames = 13 + _table_bytes(flags), 0
    while (block := data[position]) != _TRAILER:
        if block == _EXTENSION:
            position = _after_blocks(data, position + 2)
        elif block == _FRAME:
            (flags,) = struct.unpack_from("B", data, position + 9)
            position = _after_blocks(data, position + 11 + _table_bytes(flags))
            frames += 1
        elif block == 0:
            position += 1
        else:
            raise Damaged("something is between its blocks")
    if not frames:
        raise Damaged("it has no frame")
    return frames


def _after_blocks(data: bytes, position: int) -> int:
    while length := data[position]:
        position += 1 + length
    return position + 1


def _table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
