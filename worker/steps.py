"""The steps on pixels: a function for each name in common.processing.STEPS, and named like it.

A function gets the picture (mode L, LA, RGB or RGBA), its step and the size that must come out, and returns another picture, or,
where there is nothing to do, the same. Alpha stays: whatever mixes pixels weighs their colours by it, so that what is transparent
casts no halo.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image, ImageFilter

from common.processing import Crop, Filter, Fit, Processing, Resize, Rotate, Size
from worker.resampling import resampled

Function = Callable[[Image.Image, Any, Size], Image.Image]
FUNCTIONS: dict[str, Function] = {}

# Pillow turns the other way.
_CLOCKWISE = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
# Colours weighed by their alpha.
_WEIGHED = {"LA": "La", "RGBA": "RGBa"}
# Of the blur that a picture is sharpened against, in pixels.
_SHARPENED_SIGMA = 1


def carried_out(processing: Processing, image: Image.Image, size: Size) -> Image.Image:
    """`size`: what the steps are to take the picture's for; a decoder may have done the first resize already."""
    for step, after in processing.sizes(size):
        image = FUNCTIONS[step.name](image, step, after)
    return image


def _is_a_step(function: Function) -> Function:
    FUNCTIONS[function.__name__] = function
    return function


@_is_a_step
def resize(image: Image.Image, step: Resize, size: Size) -> Image.Image:
    # Pillow weighs colours by their alpha here by itself.
    return resampled(image, size, _covered(image.size, size) if step.fit is Fit.FILL else None)


def _covered(given: Size, wanted: Size) -> tuple[float, float, float, float]:
    """The largest part of the wanted shape, in the middle. Parts of a pixel count, so that the middle stays where it is; where
    nothing is scaled, whole pixels are taken as they are."""
    width, height = given
    scale = max(wanted[0] / width, wanted[1] / height)
    if scale == 1:
        x, y = (width - wanted[0]) // 2, (height - wanted[1]) // 2
        return x, y, x + wanted[0], y + wanted[1]
    x_cut, y_cut = max(0.0, width - wanted[0] / scale) / 2, max(0.0, height - wanted[1] / scale) / 2
    return x_cut, y_cut, width - x_cut, height - y_cut


@_is_a_step
def crop(image: Image.Image, step: Crop, size: Size) -> Image.Image:
    return image.crop((step.x, step.y, step.x + step.width, step.y + step.height))


@_is_a_step
def grayscale(image: Image.Image, step: Filter, size: Size) -> Image.Image:
    """BT.601 luma of the sRGB values, as Pillow converts."""
    mode = "LA" if image.mode.endswith("A") else "L"
    return image if image.mode == mode else image.convert(mode)


@_is_a_step
def rotate(image: Image.Image, step: Rotate, size: Size) -> Image.Image:
    return image.transpose(_CLOCKWISE[step.degrees])


@_is_a_step
def flip(image: Image.Image, step: Filter, size: Size) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


@_is_a_step
def mirror(image: Image.Image, step: Filter, size: Size) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@_is_a_step
def blur(image: Image.Image, step: Filter, size: Size) -> Image.Image:
    return _blurred(image, float(step.amount or 0))


@_is_a_step
def sharpen(image: Image.Image, step: Filter, size: Size) -> Image.Image:
    """An unsharp mask: adds so many times what a slight blur takes away. Alpha is left alone."""
    # Blending with more than the whole of a picture goes on beyond it.
    sharpened = Image.blend(_blurred(image, _SHARPENED_SIGMA), image, 1 + float(step.amount or 0))
    if image.mode in _WEIGHED:
        sharpened.putalpha(image.getchannel("A"))
    return sharpened


def _blurred(image: Image.Image, sigma: float) -> Image.Image:
    weighed = image.convert(_WEIGHED.get(image.mode, image.mode))
    return weighed.filter(ImageFilter.GaussianBlur(sigma)).convert(image.mode)
