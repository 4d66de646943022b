"""From pixels to a file's bytes, without metadata."""

import io

from PIL import Image

from common.formats import Format

# Larger levels take several times the time for a few per cent of the size.
PNG_COMPRESSION = 3


def encode(image: Image.Image, kind: Format, quality: int) -> bytes:
    image.info = {}  # Pillow's writers take comments, profiles and more from there
    buffer = io.BytesIO()
    match kind:
        case Format.JPEG:
            image.save(buffer, "JPEG", quality=quality)
        case Format.PNG:
            image.save(buffer, "PNG", compress_level=PNG_COMPRESSION)
        case _:
            raise NotImplementedError(kind)
    return buffer.getvalue()
