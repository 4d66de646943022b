"""JPEG, decoded no larger than is needed. Arithmetic, lossless and hierarchical coding, and 12 bits a sample, are refused."""

from typing import Any

from PIL import Image

from common.formats import Format, Limits, orientation_in, upright_size
from common.processing import Fit, Processing, Resize, Size
from worker.decoding.colour import profile_in, to_srgb
from worker.decoding.intact import Damaged
from worker.decoding.jpeg_layout import JpegLayout, ceil_div, read_layout
from worker.decoding.picture import Decoded, Frame, check_limits, check_memory, check_output, turned_upright
from worker.resampling import Gray, resampled

# By the number of components: the mode, and Pillow's raw mode. CMYK is stored inverted, as Adobe does and all others follow.
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}
# As much as a decoder reads ahead of what it needs, 64 bits.
_PADDING, _ONE_MORE = b"\xff\0" * 8, b"\xff\0"


def decode_jpeg(data: bytes, processing: Processing, limits: Limits) -> Decoded:
    layout = read_layout(data)
    check_limits(Format.JPEG, layout.size, 1, limits)
    orientation = orientation_in(layout.exif)
    upright = upright_size(*layout.size, orientation)
    check_output(Format.JPEG, upright, 1, processing, limits)
    profile = profile_in(layout.profile)
    mode, raw_mode = _MODES[len(layout.components)]
    if mode == "RGB" and _is_about_luma(processing) and profile is None:
        mode = raw_mode = "L"  # a foreign profile needs the colours
    resize = _leading_resize(processing)
    target = upright_size(*resize.size_after(upright), orientation) if resize else layout.size
    reduction = _reduction(layout.size, target, resize) if resize else 1
    left, top, right, bottom = (side / reduction for side in _part(layout.size, target, resize))
    size = ceil_div(layout.size[0], reduction), ceil_div(layout.size[1], reduction)
    if mode == "L" and profile is None:
        gray = Gray.blank(size)
        decode_pixels(data, layout, gray.image, raw_mode, reduction=reduction)
        image = gray.resampled(target, (left, top, right, bottom))
    else:
        image = Image.new(mode, size, None)
        decode_pixels(data, layout, image, raw_mode, reduction=reduction)
        image = to_srgb(image, profile)
        if reduction > 1:
            image = resampled(image, target, (left, top, right, bottom))
    return Decoded(kind=Format.JPEG, size=upright, frames=iter([Frame(image=turned_upright(image, orientation))]))


def _is_about_luma(processing: Processing) -> bool:
    """Whether nothing but gray is made of the picture. What comes before it is linear, apart from sharpening."""
    names = [step.name for step in processing.steps]
    return "grayscale" in names and "sharpen" not in names[: names.index("grayscale")]


def _leading_resize(processing: Processing) -> Resize | None:
    """The resize that the processing begins with. Gray before it makes no difference: both are linear."""
    for step in processing.steps:
        if isinstance(step, Resize):
            return step
        if step.name != "grayscale":
            return None
    return None


def _reduction(stored: Size, target: Size, resize: Resize) -> int:
    """libjpeg decodes at a half, a quarter or an eighth at next to no cost. No less than twice the size wanted is asked for."""
    scales = [side // (2 * wanted) for side, wanted in zip(stored, target, strict=True)]
    # Where the shape is kept, the longer side tells: the other one may be a single pixel, from rounding.
    scale = scales[stored.index(max(stored))] if resize.fit is Fit.FIT else min(scales)
    return max(step for step in (1, 2, 4, 8) if step <= max(1, scale))


def _part(stored: Size, target: Size, resize: Resize | None) -> tuple[float, float, float, float]:
    """What the result shows of the picture: all, or, where it is to be filled, the middle."""
    width, height = float(stored[0]), float(stored[1])
    if resize and resize.fit is Fit.FILL:
        scale = max(target[0] / width, target[1] / height)
        width, height = min(width, target[0] / scale), min(height, target[1] / scale)
    left, top = (stored[0] - width) / 2, (stored[1] - height) / 2
    return left, top, left + width, top + height


def decode_pixels(
    jpeg: bytes, layout: JpegLayout, image: Image.Image, raw_mode: str, *, colours: str = "", reduction: int = 1
) -> None:
    """Draws it on that image. `colours`: what the components are, where the file is not to be asked. Raises Damaged where coded
    data end early.

    libjpeg then makes up what is missing, with a warning that Pillow keeps to itself. So it gets the data stretch by stretch, each
    without the marker that ends it but with a few bytes that mean nothing: of a whole stretch it passes them over, waiting for the
    marker; in a broken one it takes them for data, and waits for more. All ones, they are the longest there is to read.
    """
    if layout.is_in_several_scans:
        check_memory(layout.coefficient_bytes)
    decoder = Image._getdecoder(image.mode, "jpeg", (raw_mode, colours), (reduction, 0))
    decoder.setimage(image.im, (0, 0, *image.size))
    feed, view, position = _Feed(decoder), memoryview(jpeg), 0
    for end in layout.stretches:
        if feed.takes(view[position:end]) or feed.takes(_PADDING):
            return
        # Waiting in mid-scan it may have used up everything once, by chance, but not twice running.
        if feed.rest or feed.takes(_ONE_MORE) or feed.rest:
            raise Damaged("a scan ends early")
        position = end
    # A single scan is complete before its marker comes.
    if not layout.is_in_several_scans or not feed.takes(view[position:]):
        raise Damaged("the last scan ends early")


class _Feed:
    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.rest = b""
        """What the decoder has been given and will want to see again, together with more."""

    def takes(self, more: bytes | memoryview) -> bool:
        """→ whether the picture is complete."""
        given = b"".join((self.rest, more)) if self.rest else more
        used, error = self._decoder.decode(given)
        if used < 0 and error < 0:
            raise Damaged(f"decoder error {error}")
        self.rest = bytes(given[used:]) if used >= 0 else b""
        return bool(used < 0)
