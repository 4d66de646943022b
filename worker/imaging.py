"""What is done to pixels: one file in, one file out. Runs in a child process, under its limits (see pool.py).

Promises that the output has the input's format, exactly the size that common.processing computes, and no metadata.
A new step is one more case in `_apply`.
"""

import hashlib
import io
from pathlib import Path
from typing import assert_never

from PIL import Image

from common import processing
from common.formats import Format
from common.ports import Rendered
from common.processing import Grayscale, Resize, Step
from worker.decoding import decode

JPEG_QUALITY = 85
# Larger levels take several times the time for a few per cent of the size.
PNG_COMPRESSION = 3


def render_file(source: Path, target: Path, processing_text: str, max_pixels: int) -> Rendered:
    """Raises PictureRefused, or MemoryError where the limit of the process does not suffice."""
    wanted = processing.parse(processing_text)
    decoded = decode(source.read_bytes(), wanted, max_pixels)
    image, size = decoded.image, (decoded.width, decoded.height)
    for step in wanted.steps:
        size = step.size_after(*size)
        image = _apply(step, image, size)
    content = _encode(image, decoded.kind)
    target.write_bytes(content)
    return Rendered(
        content_type=decoded.kind.value,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        width=image.width,
        height=image.height,
    )


def _apply(step: Step, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    match step:
        case Resize():
            # Pillow weighs colours by their alpha here, so what is transparent casts no halo.
            return image.resize(size, Image.Resampling.LANCZOS)
        case Grayscale():
            return image.convert("LA" if image.mode.endswith("A") else "L")
        case _:
            assert_never(step)


def _encode(image: Image.Image, kind: Format) -> bytes:
    image.info = {}  # Pillow's writers take comments, profiles and more from there
    buffer = io.BytesIO()
    match kind:
        case Format.JPEG:
            image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        case Format.PNG:
            image.save(buffer, "PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()
