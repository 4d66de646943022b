"""From a file's bytes to the whole picture: upright, in 8-bit sRGB. The only place that meets the decoders' exceptions.

Raises PictureRefused for what is damaged or over a limit, MemoryError for what takes too much memory; never returns half a picture.
"""

import io
import warnings
from dataclasses import dataclass

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from common.errors import InvalidProcessing, PictureRefused
from common.formats import ALLOWED, SNIFFED_BYTES, Format, orientation_in, sniff, upright_size
from common.images import FailureCode
from common.processing import Grayscale, Processing, Resize
from worker.colour import foreign_profile, to_srgb
from worker.intact import check_chunks, check_filled_jpeg, check_filled_png

# From stored to upright. Source: EXIF 2.32, 4.6.4 (orientation).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's raw modes of gray PNGs of 2 and 4 bits, and the levels' distance once they are 8 bits.
_GRAY_STEPS = {"L;2": 85, "L;4": 17}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """`width` and `height` are the upright picture's. `image` is that, or, where the processing begins with a resize, perhaps
    already that resize's result."""

    kind: Format
    image: Image.Image
    width: int
    height: int


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Pillow would parse all of the EXIF for the resolution, and a hostile block costs gigabytes."""


def decode(data: bytes, processing: Processing, max_pixels: int) -> Decoded:
    kind = sniff(data[:SNIFFED_BYTES])
    if kind is None:
        raise PictureRefused(FailureCode.CORRUPT_IMAGE, f"The file is none of {ALLOWED}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which are stripped anyway
            return _decode_jpeg(data, processing, max_pixels) if kind is Format.JPEG else _decode_png(data, processing, max_pixels)
    except (MemoryError, PictureRefused):
        raise
    except Exception as error:  # decoders raise almost anything on a malformed file, and each means the same
        if "out of memory" in str(error):
            raise MemoryError from error
        detail = f"The {kind.name} file is damaged or cut off, and cannot be decoded as a whole picture."
        raise PictureRefused(FailureCode.CORRUPT_IMAGE, detail) from error


def _decode_jpeg(data: bytes, processing: Processing, max_pixels: int) -> Decoded:
    stream = io.BytesIO(data)
    picture = _Jpeg(stream)
    _check_size(picture, max_pixels)
    orientation = orientation_in(picture.info.get("exif"))
    width, height = upright_size(*picture.size, orientation)
    _check_output(processing, width, height, max_pixels)
    profile = foreign_profile(picture)
    resize = _first_resize(processing)
    mode = "L" if Grayscale() in processing.steps and profile is None else None

    def draft(picture: JpegImageFile) -> tuple[float, float, float, float] | None:
        """Lets libjpeg decode at a half, a quarter or an eighth, but no less than twice the size wanted; only the luma, where gray
        is wanted (a foreign profile needs the colours). → where the whole picture is in the reduced one."""
        if resize is None:
            return None
        # Only the stored side that becomes the width counts: the other one may be a single pixel.
        stored_width, stored_height = upright_size(2 * resize.width, 1, orientation)
        drafted = picture.draft(mode, (stored_width, stored_height))
        return drafted[1] if drafted else None

    def loaded(jpeg: bytes) -> Image.Image:
        again = _Jpeg(io.BytesIO(jpeg))
        draft(again)
        again.load()
        return again

    scan, box = stream.tell(), draft(picture)
    picture.load()
    check_filled_jpeg(picture, data, scan, loaded)
    image = to_srgb(picture, profile)
    if resize is not None and box is not None:
        target = resize.size_after(width, height)
        image = image.resize(upright_size(*target, orientation), Image.Resampling.LANCZOS, box=box)
    return Decoded(kind=Format.JPEG, image=_upright(image, orientation), width=width, height=height)


def _first_resize(processing: Processing) -> Resize | None:
    """The resize that the processing begins with. Gray before it makes no difference: both are linear."""
    for step in processing.steps:
        if isinstance(step, Resize):
            return step
    return None


def _decode_png(data: bytes, processing: Processing, max_pixels: int) -> Decoded:
    picture = PngImageFile(io.BytesIO(data))
    _check_size(picture, max_pixels)
    bits_per_pixel, raw_mode = data[24] * _SAMPLES[data[25]], str(picture.tile[0].args)
    pixels = check_chunks(data)
    picture.load()
    check_filled_png(picture, bits_per_pixel, pixels)
    _scale_key(picture, raw_mode)
    orientation = orientation_in(picture.info.get("exif"))
    width, height = upright_size(*picture.size, orientation)
    _check_output(processing, width, height, max_pixels)
    image = _upright(to_srgb(picture, foreign_profile(picture)), orientation)
    return Decoded(kind=Format.PNG, image=image, width=width, height=height)


# Samples a pixel by PNG's colour type. Source: PNG (third edition), section 11.2.1.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _scale_key(picture: ImageFile, raw_mode: str) -> None:
    """The transparent colour comes at the file's depth, the pixels at 8 bits."""
    key = picture.info.get("transparency")
    if isinstance(key, str):  # a text chunk of that name
        del picture.info["transparency"]
    elif raw_mode in _GRAY_STEPS and isinstance(key, int):
        picture.info["transparency"] = key * _GRAY_STEPS[raw_mode]
    elif raw_mode == "RGB;16B" and isinstance(key, tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in key)


def _check_size(picture: ImageFile, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        detail = f"The picture has {width} × {height} pixels; {max_pixels} in all are allowed."
        raise PictureRefused(FailureCode.LIMIT_EXCEEDED, detail)


def _check_output(processing: Processing, width: int, height: int, max_pixels: int) -> None:
    try:
        processing.check_size(width, height, max_pixels)
    except InvalidProcessing as error:
        raise PictureRefused(FailureCode.LIMIT_EXCEEDED, error.detail) from None


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)
