"""What the decoders hand out, as 8-bit sRGB in mode L, LA, RGB or RGBA, whatever depth, palette, key colour or profile it had."""

import io
from typing import Any

from PIL import Image, ImageCms

# Colour spaces of profiles, and the modes whose pixels they can speak of. Gray pixels of an RGB profile lie on its gray axis.
_SPEAKS_OF = {"RGB": ("L", "RGB"), "GRAY": ("L",), "CMYK": ("CMYK",)}


def profile_in(data: object) -> ImageCms.ImageCmsProfile | None:
    """An embedded profile's bytes, or none. → the profile, unless it is broken, or sRGB by its own word."""
    if not isinstance(data, bytes):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        is_srgb = (profile.profile.profile_description or "").startswith("sRGB")
    except (OSError, ValueError, ImportError):  # no profile, or a Pillow built without LittleCMS
        return None
    return None if is_srgb else profile


def to_srgb(picture: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    image = _eight_bit(picture)
    if profile is not None:
        image = _converted(image, profile)
    return image.convert("RGB") if image.mode == "CMYK" else image


def _eight_bit(picture: Image.Image) -> Image.Image:
    key: Any = picture.info.get("transparency")
    match picture.mode:
        case "I;16":
            return _from_sixteen_bit(picture, key)
        case "P":
            return picture.convert("RGB" if key is None else "RGBA")
        case "L" if key is None:
            return picture
        case "1" | "L":
            return picture.convert("L" if key is None else "LA")
        case "RGB" if key is not None:
            return picture.convert("RGBA")
        case "LAB":
            return _from_lab(picture)
        case _:
            return picture


def _from_sixteen_bit(picture: Image.Image, key: int | None) -> Image.Image:
    """Scaled; Pillow's own conversion clips."""
    wide = picture.convert("I")
    gray = wide.point([(level * 255 + 32767) // 65535 for level in range(65536)], "L")
    if key is None:
        return gray
    return Image.merge("LA", (gray, wide.point([0 if level == key else 255 for level in range(65536)], "L")))


def _from_lab(picture: Image.Image) -> Image.Image:
    converted = ImageCms.profileToProfile(picture, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB")
    if converted is None:
        raise ValueError("not converted")
    return converted


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """A profile that does not fit the pixels is left out of account. Gray stays gray, alpha stays as it is."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode.removesuffix("A"))
    space = profile.profile.xcolor_space.strip()
    if colours.mode not in _SPEAKS_OF.get(space, ()):
        return image
    try:
        converted = ImageCms.profileToProfile(
            colours.convert("L" if space == "GRAY" else space), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError:
        return image
    if converted is None:
        return image
    if colours.mode == "L":
        converted = converted.convert("L")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
