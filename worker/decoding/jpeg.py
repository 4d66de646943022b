"""JPEG, decoded no larger than is needed."""

import io

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Filter, Processing, Resize
from worker.decoding.colour import foreign_profile, to_srgb
from worker.decoding.intact import check_filled_jpeg
from worker.decoding.picture import Decoded, Frame, check_limits, check_output, turned_upright

GRAYSCALE = Filter(name="grayscale")


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Pillow would parse all of the EXIF for the resolution, and a hostile block costs gigabytes."""


def decode_jpeg(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    stream = io.BytesIO(data)
    picture = _Jpeg(stream)
    check_limits(Format.JPEG, picture.size, 1, limits)
    orientation = orientation_in(picture.info.get("exif"))
    upright = upright_size(*picture.size, orientation)
    check_output(Format.JPEG, upright, 1, processing, limits)
    profile = foreign_profile(picture)
    resize = _leading_resize(processing)
    mode = "L" if GRAYSCALE in processing.steps and profile is None else None

    def draft(picture: JpegImageFile) -> tuple[float, float, float, float] | None:
        """Lets libjpeg decode at a half, a quarter or an eighth, but no less than twice the size wanted; only the luma, where gray
        is wanted (a foreign profile needs the colours). → where the whole picture is in the reduced one."""
        if resize is None:
            return None
        # Only the stored side that becomes the width counts: the other one may be a single pixel.
        stored_width, stored_height = upright_size(2 * (resize.width or 0), 1, orientation)
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
        target = resize.size_after(upright)
        image = image.resize(upright_size(*target, orientation), Image.Resampling.LANCZOS, box=box)
    return Decoded(kind=Format.JPEG, size=upright, frames=iter([Frame(image=turned_upright(image, orientation))]))


def _leading_resize(processing: Processing) -> Resize | None:
    """The resize to a width that the processing begins with. Gray before it makes no difference: both are linear."""
    for step in processing.steps:
        if isinstance(step, Resize) and step.height is None:
            return step
        if step != GRAYSCALE:
            return None
    return None
