"""From pixels to a file's bytes, in every format, without metadata.

Alpha is kept where the format has it (in a GIF, all or nothing) and flattened on white where it has none. Colours that are hidden
under full transparency are not written. Several frames become an animation where the format has those.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from common.formats import Format
from worker.decoding.picture import Frame

# Larger levels take several times the time for a few per cent of the size.
PNG_COMPRESSION = 3
# Of a GIF's 256 colours the last one is for what is transparent, from less than half covered on.
_TRANSPARENT, _HALF = 255, 128
_WHITE = 255


def encode(frames: Sequence[Frame], kind: Format, quality: int, loops: int = 0) -> bytes:
    """`loops`: how often an animation is shown, 0 for ever. `quality` is for the formats that lose something: JPEG, WebP, AVIF."""
    prepare = _PREPARED.get(kind, _clean)
    has_alpha = any(frame.image.mode in ("LA", "RGBA") for frame in frames)
    images = [prepare(_alike(frame.image, has_alpha=has_alpha and len(frames) > 1)) for frame in frames]
    options = _options(kind, quality)
    if len(images) > 1:
        options |= {"save_all": True, "append_images": images[1:], "duration": [frame.duration_ms for frame in frames]}
        options |= _animation(kind, loops, has_alpha=has_alpha)
    buffer = io.BytesIO()
    images[0].save(buffer, kind.name, **options)
    return buffer.getvalue()


def _options(kind: Format, quality: int) -> dict[str, Any]:
    match kind:
        case Format.JPEG | Format.WEBP | Format.AVIF:
            return {"quality": quality}
        case Format.PNG:
            return {"compress_level": PNG_COMPRESSION}
        case Format.TIFF:
            return {"compression": "tiff_lzw"}
        case Format.GIF | Format.BMP:
            return {}


def _animation(kind: Format, loops: int, *, has_alpha: bool) -> dict[str, Any]:
    """A GIF counts how often it is shown again; without a count it is shown once."""
    match kind:
        case Format.GIF:
            # What shows through is not the frame before.
            again = {} if loops == 1 else {"loop": max(0, loops - 1)}
            return again | {"disposal": 2 if has_alpha else 0}
        case Format.WEBP if has_alpha:
            # Whole frames: where the parts that change are opaque, readers would take the whole for opaque.
            return {"loop": loops, "kmin": 0, "kmax": 1}
        case _:
            return {"loop": loops}


def _alike(image: Image.Image, *, has_alpha: bool) -> Image.Image:
    """The frames of one animation are all of one mode."""
    return image.convert("RGBA") if has_alpha else image


def _bare(image: Image.Image) -> Image.Image:
    """Without what Pillow's writers would take from there: comments, profiles and more."""
    image.info = {}
    return image


def _clean(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return _bare(image)
    alpha = image.getchannel("A")
    nothing = Image.new(image.mode, image.size, (0,) * len(image.getbands()))
    nothing.paste(image, mask=alpha.point([0] + [255] * 255))
    nothing.putalpha(alpha)
    return _bare(nothing)


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return _bare(image)
    mode = image.mode.removesuffix("A")
    white = Image.new(mode, image.size, (_WHITE,) * len(mode))
    white.paste(image.convert(mode), mask=image.getchannel("A"))
    return _bare(white)


def _in_colour(image: Image.Image) -> Image.Image:
    """For writers that take gray with alpha for something else."""
    return _clean(image.convert("RGBA") if image.mode == "LA" else image)


def _indexed(image: Image.Image) -> Image.Image:
    match image.mode:
        case "L":
            return _bare(image)
        case "RGB":
            return _bare(image.quantize(256))
        case _:
            alpha = image.getchannel("A")
            indexed = image.convert("RGB").quantize(_TRANSPARENT)
            indexed.paste(_TRANSPARENT, mask=alpha.point([255] * _HALF + [0] * (256 - _HALF)))
            _bare(indexed).info["transparency"] = _TRANSPARENT
            return indexed


_PREPARED: dict[Format, Callable[[Image.Image], Image.Image]] = {
    Format.JPEG: _flattened,
    Format.BMP: _flattened,
    Format.GIF: _indexed,
    Format.TIFF: _in_colour,
}
