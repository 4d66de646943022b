"""Lanczos resampling. Gray goes through the vector instructions that pillow-simd has for four channels only, several times as fast.

Promises for gray exactly what Pillow's own resize makes of the picture laid on its side: first along the columns, then along the
rows, each in the fixed-point arithmetic that is the same for any number of channels. Pillow takes the rows first. Both round and
clip in between, so they differ by a level or two here and there, by more only where noise overshoots. Neither is nearer to the
truth.
"""

from dataclasses import dataclass
from typing import Any

from PIL import Image

from common.processing import Size

Box = tuple[float, float, float, float]
_LANES = 4


def resampled(image: Image.Image, size: Size, box: Box | None = None) -> Image.Image:
    """`box`: the part to be taken, as (left, top, right, bottom) in pixels; all of it by default. Where there is nothing to do, the
    picture itself is returned."""
    part = box or (0, 0, *image.size)
    if (size, part) == (image.size, (0, 0, *image.size)):
        return image
    if image.mode != "L":
        return image.resize(size, Image.Resampling.LANCZOS, part)
    return Gray.of(image).resampled(size, part)


@dataclass(frozen=True, slots=True)
class Gray:
    """A gray picture in memory that can be looked at in several ways without a copy. Rows have a multiple of four bytes."""

    size: Size
    pixels: Any
    """Bytes, or an array of them. Pillow's annotations know of bytes alone."""

    @classmethod
    def blank(cls, size: Size) -> "Gray":
        from numpy import empty, uint8  # here, because only the children need it, and have it for PNG anyway

        return cls(size, empty(_stride(size[0]) * size[1], uint8))

    @classmethod
    def of(cls, image: Image.Image) -> "Gray":
        width, height = image.size
        padded = image if width == _stride(width) else image.crop((0, 0, _stride(width), height))
        return cls(image.size, padded.tobytes())

    @property
    def image(self) -> Image.Image:
        """Where this one was blank, what is drawn there can be seen here."""
        return self._band(0, self.size[1])

    def resampled(self, size: Size, part: Box) -> Image.Image:
        if (size, part) == (self.size, (0, 0, *self.size)):
            return self.image
        left, top, right, bottom = part
        return self._with_columns(size[1], top, bottom)._with_rows(size[0], left, right)

    def _with_columns(self, height: int, top: float, bottom: float) -> "Gray":
        """Four pixels beside each other as the four channels of one. RGBX, because of RGBA Pillow would weigh the colours."""
        if (height, top, bottom) == (self.size[1], 0, self.size[1]):
            return self
        width = _stride(self.size[0]) // _LANES
        pixels = Image.frombuffer("RGBX", (width, self.size[1]), self.pixels, "raw", "RGBX", 0, 1)
        short = pixels.resize((width, height), Image.Resampling.LANCZOS, (0, top, width, bottom))
        return Gray((self.size[0], height), _bytes_of(short))

    def _with_rows(self, width: int, left: float, right: float) -> Image.Image:
        """Four bands of rows as the four channels of one picture. The last ones begin early where the rows are not four times as
        many as a band's."""
        height = -(-self.size[1] // _LANES)
        starts = [min(lane * height, self.size[1] - height) for lane in range(_LANES)]
        bands = Image.merge("CMYK", [self._band(start, height) for start in starts])
        wide = bands.resize((width, height), Image.Resampling.LANCZOS, (left, 0, right, height))
        rows = Image.new("L", (width, self.size[1]))
        for start, band in zip(starts, wide.split(), strict=True):
            rows.paste(band, (0, start))
        return rows

    def _band(self, start: int, height: int) -> Image.Image:
        stride = _stride(self.size[0])
        pixels: Any = memoryview(self.pixels)[start * stride :]
        return Image.frombuffer("L", (self.size[0], height), pixels, "raw", "L", stride, 1)


def _bytes_of(image: Image.Image) -> bytes:
    """As its tobytes, which puts them together from small pieces."""
    encoder: Any = Image._getencoder(image.mode, "raw", image.mode)
    encoder.setimage(image.im)
    width, height = image.size
    pixels: bytes = encoder.encode(len(image.getbands()) * width * height)[2]
    return pixels


def _stride(width: int) -> int:
    return -(-width // _LANES) * _LANES
