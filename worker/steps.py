"""The steps on pixels: a function for each name in common.processing.STEPS.

A function gets the picture (mode L, LA, RGB or RGBA), its step and the size that must come out, and returns a new picture.
"""

from collections.abc import Callable

from PIL import Image

from common.processing import Processing, Size, Step

Function = Callable[[Image.Image, Step, Size], Image.Image]


def carried_out(processing: Processing, image: Image.Image, size: Size) -> Image.Image:
    """`size`: what the steps are to take the picture's for; a decoder may have done the first resize already."""
    for step, after in processing.sizes(size):
        image = FUNCTIONS[step.name](image, step, after)
    return image


def resize(image: Image.Image, step: Step, size: Size) -> Image.Image:
    # Pillow weighs colours by their alpha here, so what is transparent casts no halo.
    return image.resize(size, Image.Resampling.LANCZOS)


def grayscale(image: Image.Image, step: Step, size: Size) -> Image.Image:
    return image.convert("LA" if image.mode.endswith("A") else "L")


FUNCTIONS: dict[str, Function] = {"resize": resize, "grayscale": grayscale}
