"""The real worker with a renderer that some pictures are too much for: `python -m tests.chaos.moody worker`.

A picture that has `DEADLY` among its bytes kills the process that renders it, each time; one that has `SLOW` takes SLOW_SECONDS.
"""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from cli.main import main
from common.formats import Limits
from common.ports import Rendered
from tests.pictures import jpeg_segment, photo_jpeg, with_segments
from worker import app
from worker.imaging import render_file
from worker.pool import RenderPool

DEADLY, SLOW, SLOW_SECONDS = b"kills its renderer", b"takes its time", 4.0
PROGRAM = ["env", f"PYTHONPATH={Path(__file__).parents[2]}", sys.executable, "-m", __name__]


def with_mood(mood: bytes, seed: int = 1) -> bytes:
    """A JPEG with that in a comment."""
    return with_segments(photo_jpeg(120, 90, seed), jpeg_segment(0xFE, mood))


def render(source: Path, target: Path, text: str, limits: Limits) -> Rendered:
    content = source.read_bytes()
    if DEADLY in content:
        os.kill(os.getpid(), signal.SIGKILL)
    if SLOW in content:
        time.sleep(SLOW_SECONDS)
    return render_file(source, target, text, limits)


if __name__ == "__main__":
    # What a child of the pool imports is the module's own name, not __main__.
    from tests.chaos.moody import render as as_children_know_it

    vars(app)["RenderPool"] = partial(RenderPool, render=as_children_know_it)
    main()
