"""PNG, every depth and colour type."""

import io

from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Processing
from worker.decoding.colour import foreign_profile, to_srgb
from worker.decoding.intact import check_chunks, check_filled_png
from worker.decoding.picture import Decoded, Frame, check_limits, check_output, turned_upright

# Pillow's raw modes of gray PNGs of 2 and 4 bits, and the levels' distance once they are 8 bits.
_GRAY_STEPS = {"L;2": 85, "L;4": 17}
# Samples a pixel by PNG's colour type. Source: PNG (third edition), section 11.2.1.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def decode_png(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    picture = PngImageFile(io.BytesIO(data))
    check_limits(Format.PNG, picture.size, 1, limits)
    bits_per_pixel, raw_mode = data[24] * _SAMPLES[data[25]], str(picture.tile[0].args)
    pixels = check_chunks(data)
    picture.load()
    check_filled_png(picture, bits_per_pixel, pixels)
    _scale_key(picture, raw_mode)
    orientation = orientation_in(picture.info.get("exif"))
    upright = upright_size(*picture.size, orientation)
    check_output(Format.PNG, upright, 1, processing, limits)
    image = turned_upright(to_srgb(picture, foreign_profile(picture)), orientation)
    return Decoded(kind=Format.PNG, size=upright, frames=iter([Frame(image=image)]))


def _scale_key(picture: ImageFile, raw_mode: str) -> None:
    """The transparent colour comes at the file's depth, the pixels at 8 bits."""
    key = picture.info.get("transparency")
    if isinstance(key, str):  # a text chunk of that name
        del picture.info["transparency"]
    elif raw_mode in _GRAY_STEPS and isinstance(key, int):
        picture.info["transparency"] = key * _GRAY_STEPS[raw_mode]
    elif raw_mode == "RGB;16B" and isinstance(key, tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in key)
