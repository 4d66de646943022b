"""The whole files that mutations start from: every format, and within it every way of storing pixels that takes code of its own.

Small ones, so that many can be tried. The files in tests/data, made by other programs, are among them.
"""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from tests.pictures import exif_block, linear_profile, photo, with_exif

DATA = Path(__file__).parent.parent / "data"
LARGEST_BYTES = 16 * 1024
PHOTO = photo(48, 36)


def seeds() -> list[bytes]:
    found = [path.read_bytes() for path in sorted(DATA.rglob("*")) if path.is_file() and path.suffix not in (".md", ".py")]
    return [content for content in found if len(content) <= LARGEST_BYTES] + _made()


def _made() -> list[bytes]:
    alpha = PHOTO.copy()
    alpha.putalpha(PHOTO.convert("L"))
    frames: dict[str, Any] = {"save_all": True, "append_images": [photo(48, 36, seed) for seed in (2, 3)], "duration": [50, 70, 90]}
    return [
        _saved(PHOTO, "JPEG", quality=80),
        _saved(PHOTO, "JPEG", progressive=True, subsampling=0),
        _saved(PHOTO.convert("L"), "JPEG", restart_marker_blocks=4),
        _saved(PHOTO.convert("CMYK"), "JPEG"),
        with_exif(_saved(PHOTO, "JPEG", icc_profile=linear_profile()), exif_block(6)),
        _saved(PHOTO, "PNG"),
        _saved(alpha, "PNG"),
        _saved(PHOTO.quantize(16), "PNG", transparency=3),
        _saved(PHOTO.convert("1"), "PNG"),
        _saved(PHOTO.convert("I;16"), "PNG"),
        _saved(PHOTO, "PNG", **frames),
        _saved(PHOTO, "WEBP"),
        _saved(alpha, "WEBP", lossless=True),
        _saved(PHOTO, "WEBP", **frames),
        _saved(PHOTO.quantize(32), "GIF"),
        _saved(PHOTO, "GIF", **frames),
        *(_saved(PHOTO, "TIFF", compression=kind) for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        _saved(PHOTO.convert("1"), "TIFF", compression="group4"),
        _saved(alpha, "TIFF"),
        _saved(PHOTO.convert("I;16"), "TIFF"),
        *(_saved(PHOTO.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")),
    ]


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
