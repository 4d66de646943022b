"""This service's own engine, as a worker's child process runs it."""

from importlib.metadata import version

from measure import PICTURE, RESULT, STEPS, measured

from common.formats import Limits
from worker.child import keep_freed_memory
from worker.imaging import render_file

LIMITS = Limits(pixels=50_000_000, frames=300, total_pixels=200_000_000)
FORMAT = {".jpg": "jpeg", ".png": "png"}[RESULT.suffix]


def work() -> None:
    render_file(PICTURE, RESULT, f"{STEPS}|format:{FORMAT}", LIMITS)


keep_freed_memory()
measured(work, f"image-processor {version('image-processor')}")
