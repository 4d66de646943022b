"""libvips through pyvips: `thumbnail`, as its documentation advises."""

import os

os.environ["VIPS_CONCURRENCY"] = "1"

import pyvips
from measure import PICTURE, RESULT, measured

pyvips.cache_set_max(0)


def work() -> None:
    image = pyvips.Image.thumbnail(str(PICTURE), 800, height=100_000).colourspace("b-w")
    if RESULT.suffix == ".jpg":
        image.jpegsave(str(RESULT), Q=85, keep=pyvips.ForeignKeep.NONE)
    else:
        image.pngsave(str(RESULT))


measured(work, f"libvips {pyvips.version(0)}.{pyvips.version(1)}.{pyvips.version(2)}")
