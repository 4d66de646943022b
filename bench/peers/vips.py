"""libvips through pyvips: `thumbnail`, as its documentation advises."""

import os

os.environ["VIPS_CONCURRENCY"] = "1"

import pyvips
from measure import PICTURE, RESULT, STEPS, measured

pyvips.cache_set_max(0)


def thumbnail(width: int, height: int = 100_000, **options: object) -> pyvips.Image:
    return pyvips.Image.thumbnail(str(PICTURE), width, height=height, **options)


WORK = {
    "resize:800|grayscale": lambda: thumbnail(800).colourspace("b-w"),
    "resize:800": lambda: thumbnail(800),
    "resize:320": lambda: thumbnail(320),
    "resize:320|grayscale": lambda: thumbnail(320).colourspace("b-w"),
    "resize:1600": lambda: thumbnail(1600),
    "resize:1600|grayscale": lambda: thumbnail(1600).colourspace("b-w"),
    "resize:400x400:fill": lambda: thumbnail(400, 400, crop="centre"),
    "resize:800|blur:2": lambda: thumbnail(800).gaussblur(2),
    "resize:800|sharpen:1": lambda: thumbnail(800).sharpen(),
    # What is read in another order must be in memory first.
    "resize:800|rotate:90": lambda: thumbnail(800).copy_memory().rot90(),
    "grayscale": lambda: pyvips.Image.new_from_file(str(PICTURE), access="sequential").colourspace("b-w"),
}


def work() -> None:
    image = WORK[STEPS]()
    if RESULT.suffix == ".jpg":
        image.jpegsave(str(RESULT), Q=85, keep=pyvips.ForeignKeep.NONE)
    else:
        image.pngsave(str(RESULT))


measured(work, f"libvips {pyvips.version(0)}.{pyvips.version(1)}.{pyvips.version(2)}")
