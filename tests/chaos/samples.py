"""The pictures of a chaos run: good ones of several formats and sizes, bad ones, and what each demands of the service.

The same seed gives the same pictures. What a good one becomes is rendered here, in this process, undisturbed: a result of the
service is right when it is the same bytes.
"""

import hashlib
import io
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from common import processing
from common.formats import Limits
from common.images import FailureCode
from common.ports import Rendered
from tests.pictures import photo, photo_jpeg, photo_png, raw_png
from worker.imaging import render_file

GOOD, LARGE, CORRUPT, GREEDY, REFUSED = "good", "large", "corrupt", "greedy", "refused"
# How many uploads of a hundred are of each kind.
SHARES = {GOOD: 79, LARGE: 4, CORRUPT: 8, GREEDY: 1, REFUSED: 8}
CORRUPT_IMAGE = frozenset({FailureCode.CORRUPT_IMAGE.value})
# The last of its attempts may be one whose worker was killed.
NO_MORE_ATTEMPTS = frozenset({FailureCode.MEMORY_LIMIT.value, FailureCode.ATTEMPTS_EXHAUSTED.value})
# What a render may have, so that the greedy one is given up each time.
RENDER_MEMORY_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`result`: what it becomes. Without one, it fails with one of `codes`, or, where there are none, is refused as an upload."""

    name: str
    kind: str
    content: bytes
    processing: str = ""
    result: Rendered | None = None
    codes: frozenset[str] = frozenset()

    @property
    def is_accepted(self) -> bool:
        return self.result is not None or bool(self.codes)

    @property
    def demand(self) -> str:
        """In words, for reports."""
        if self.result is not None:
            return f"completed, {self.result.width} × {self.result.height} {self.result.content_type}"
        return f"failed, {' or '.join(sorted(self.codes))}" if self.codes else "refused"


def make_samples(seed: int) -> dict[str, list[Sample]]:
    """→ by kind."""
    dice = random.Random(seed)
    good = [*_good(dice)]
    large = [("large jpeg", photo_jpeg(2400, 1600, dice.randrange(1000)), ""), ("large png", photo_png(1400, 1000), "resize:400")]
    return {
        GOOD: [rendered(name, GOOD, content, steps) for name, content, steps in good],
        LARGE: [rendered(name, LARGE, content, steps) for name, content, steps in large],
        CORRUPT: [Sample(name=name, kind=CORRUPT, content=content, codes=CORRUPT_IMAGE) for name, content in _corrupt()],
        GREEDY: [Sample(name="greedy png", kind=GREEDY, content=_greedy(), processing="rotate:90", codes=NO_MORE_ATTEMPTS)],
        REFUSED: [Sample(name=name, kind=REFUSED, content=content) for name, content in _refused(dice)],
    }


def choose(samples: dict[str, list[Sample]], dice: random.Random) -> Sample:
    (kind,) = dice.choices(list(SHARES), list(SHARES.values()))
    return dice.choice(samples[kind])


def _good(dice: random.Random) -> list[tuple[str, bytes, str]]:
    def some(kind: str, **options: Any) -> bytes:
        width, height = dice.randrange(120, 240), dice.randrange(80, 160)
        return _saved(photo(width, height, dice.randrange(1000)), kind, **options)

    frames = [photo(48, 36, seed) for seed in range(4)]
    return [
        ("jpeg", some("JPEG"), ""),
        ("progressive jpeg", some("JPEG", progressive=True), "resize:200|grayscale"),
        ("jpeg to png", some("JPEG"), "rotate:90|format:png"),
        ("png", some("PNG"), "resize:x160|grayscale"),
        ("png to webp", some("PNG"), "resize:120x90:fill|format:webp"),
        ("webp", some("WEBP"), "resize:200|grayscale"),
        ("gif", _saved(photo(90, 70).convert("P"), "GIF"), "resize:150|grayscale"),
        ("animated gif", _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100), "resize:64"),
        ("bmp to jpeg", some("BMP"), "format:jpeg|resize:160|blur:1"),
        ("tiff", some("TIFF"), "mirror|resize:140"),
    ]


def _corrupt() -> list[tuple[str, bytes]]:
    """Whole by their headers, so that they are accepted; there is no picture in them all the same."""
    noise = random.Random(1).randbytes(2000)
    jpeg = photo_jpeg(120, 90)
    middle = jpeg.index(b"\xff\xda") + 14
    return [
        ("png without pixels", raw_png(60, 40, 8, 2, b"\0" * 64)),
        ("gif of noise", b"GIF89a" + bytes([60, 0, 40, 0, 0x80, 0, 0]) + bytes(6) + _image_of_noise(noise)),
        ("jpeg cut short, with an end", jpeg[: middle + 40] + b"\xff\xd9"),
    ]


def _image_of_noise(noise: bytes) -> bytes:
    blocks = b"".join(bytes([200]) + noise[start : start + 200] for start in range(0, 1000, 200))
    return b"\x2c" + bytes([0, 0, 0, 0, 60, 0, 40, 0, 0]) + b"\x08" + blocks + b"\0;"


def _greedy() -> bytes:
    """49 megapixels in colour, in a file of 140 KB."""
    return raw_png(7000, 7000, 8, 2, bytes((3 * 7000 + 1) * 7000))


def _refused(dice: random.Random) -> list[tuple[str, bytes]]:
    return [
        ("text", b"just text, whatever its name says"),
        ("noise", dice.randbytes(3000)),
        ("truncated jpeg", photo_jpeg(160, 120)[:-20]),
        ("truncated png", photo_png(160, 120)[:-20]),
        ("truncated gif", _saved(photo(90, 70).convert("P"), "GIF")[:-20]),
    ]


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rendered(name: str, kind: str, content: bytes, steps: str) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source"), Path(folder, "target")
        source.write_bytes(content)
        result = render_file(source, target, processing.parse(steps).canonical, Limits())
        if result.sha256 != hashlib.sha256(target.read_bytes()).hexdigest():
            raise RuntimeError(f"{name}: the hash is not that of the bytes")
    return Sample(name=name, kind=kind, content=content, processing=steps, result=result)
