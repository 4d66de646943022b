"""WebP, lossy and lossless, still and animated."""

import io
import struct
from collections.abc import Iterator

from PIL.WebPImagePlugin import WebPImageFile

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Processing
from worker.decoding.colour import foreign_profile, to_srgb, without_useless_alpha
from worker.decoding.intact import Damaged
from worker.decoding.picture import Decoded, Frame, check_limits, check_output, turned_upright


def decode_webp(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    if 8 + riff_bytes > len(data):
        raise Damaged("its end is missing")
    picture = WebPImageFile(io.BytesIO(data))
    count = picture.n_frames
    check_limits(Format.WEBP, picture.size, count, limits)
    orientation = orientation_in(picture.info.get("exif"))
    upright = upright_size(*picture.size, orientation)
    check_output(Format.WEBP, upright, count, processing, limits)
    loops = picture.info.get("loop", 0)
    return Decoded(kind=Format.WEBP, size=upright, frames=_frames(picture, count, orientation), count=count, loops=loops)


def _frames(picture: WebPImageFile, count: int, orientation: int) -> Iterator[Frame]:
    profile = foreign_profile(picture)
    for number in range(count):
        picture.seek(number)
        picture.load()
        image = turned_upright(to_srgb(picture.copy(), profile), orientation)
        yield Frame(image=without_useless_alpha(image), duration_ms=picture.info.get("duration", 0))
