"""Real pictures for schemathesis, which knows what a form looks like and not what a picture is."""

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from tests.pictures import photo


def _saved(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


for _kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
    schemathesis.openapi.media_type(
        f"image/{_kind.lower()}", st.sampled_from([_saved(photo(*size), _kind) for size in ((1, 1), (17, 9), (64, 48))])
    )
