"""What is done to pixels: one file in, one file out. Runs in a child process, under its limits (see pool.py).

Promises that the output has the format and exactly the size that common.processing computes, and no metadata.
"""

import hashlib
from pathlib import Path

from common import processing
from common.formats import Limits
from common.ports import Rendered
from worker.decoding import damage_is_refused, decode
from worker.encoding import encode
from worker.steps import carried_out


def render_file(source: Path, target: Path, processing_text: str, limits: Limits) -> Rendered:
    """Raises PictureRefused, or MemoryError where the limit of the process does not suffice."""
    wanted = processing.parse(processing_text)
    data = source.read_bytes()
    with damage_is_refused(data):
        decoded = decode(data, wanted, limits)
        size = wanted.check_size(decoded.kind, decoded.size, decoded.count, limits)
        frame = carried_out(wanted, next(decoded.frames).image, decoded.size)
    kind = wanted.output_format(decoded.kind)
    content = encode(frame, kind, wanted.quality or processing.DEFAULT_QUALITY)
    target.write_bytes(content)
    return Rendered(
        content_type=kind.value,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        width=size[0],
        height=size[1],
    )
