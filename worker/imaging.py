"""What is done to pixels: one file in, one file out. Runs in a child process, under its limits (see pool.py).

Promises that the output has the format and exactly the size that common.processing computes, and no metadata. An animation's
frames pass through one after the other: memory depends on their size, hardly on their number.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from common import processing
from common.formats import Limits
from common.ports import Rendered
from common.processing import Processing, Size
from worker.decoding import damage_is_refused, decode
from worker.decoding.picture import Decoded, Frame
from worker.encoding import encode
from worker.steps import carried_out
from worker.stopwatch import Stopwatch


def render_file(source: Path, target: Path, processing_text: str, limits: Limits) -> Rendered:
    """Raises PictureRefused, or MemoryError where the limit of the process does not suffice."""
    watch = Stopwatch("decode")
    wanted = processing.parse(processing_text)
    data = source.read_bytes()
    with damage_is_refused(data):
        decoded = decode(data, wanted, limits)
    width, height = wanted.check_size(decoded.kind, decoded.size, decoded.count, limits)
    processed = map(partial(_processed, watch, wanted, decoded.size), _frames(watch, data, decoded))
    kind = wanted.output_format(decoded.kind)
    count = decoded.count if kind.is_animated else 1
    content = encode(processed, kind, wanted.quality or processing.DEFAULT_QUALITY, count=count, loops=decoded.loops)
    target.write_bytes(content)
    return Rendered(
        content_type=kind.value,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        width=width,
        height=height,
        steps=watch.steps(),
    )


def _processed(watch: Stopwatch, wanted: Processing, size: Size, frame: Frame) -> Frame:
    watch.turn_to("change")
    processed = replace(frame, image=carried_out(wanted, frame.image, size))
    watch.turn_to("encode")
    return processed


def _frames(watch: Stopwatch, data: bytes, decoded: Decoded) -> Iterator[Frame]:
    """Only what decoding raises is the file's fault."""
    while True:
        watch.turn_to("decode")
        with damage_is_refused(data):
            frame = next(decoded.frames, None)
        if frame is None:
            watch.turn_to("encode")
            return
        yield frame
        del frame  # before there is another one
