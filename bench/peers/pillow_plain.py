"""Stock Pillow as one writes it first: open, gray, resize, save."""

import PIL
from measure import PICTURE, RESULT, measured
from PIL import Image


def work() -> None:
    with Image.open(PICTURE) as image:
        gray = image.convert("L")
    height = round(gray.height * 800 / gray.width)
    gray.resize((800, height), Image.Resampling.LANCZOS).save(RESULT, quality=85)


measured(work, f"Pillow {PIL.__version__}")
