"""Rendering files in tests: from a file to the result, its pixels or the refusal. Nothing here runs in a child process."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common import processing
from common.errors import PictureRefused
from common.formats import Limits
from common.ports import Rendered
from worker.imaging import render_file

LIMITS = Limits()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
QUARTERS = (RED, GREEN, BLUE, WHITE)


def render(folder: Path, content: bytes, steps: str = processing.DEFAULT, limits: Limits = LIMITS) -> tuple[Rendered, bytes]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    rendered = render_file(source, target, steps, limits)
    return rendered, target.read_bytes()


def image(folder: Path, content: bytes, steps: str = processing.DEFAULT, limits: Limits = LIMITS) -> Image.Image:
    """The result, decoded by Pillow: its first frame, or what else is sought in it."""
    result = Image.open(io.BytesIO(render(folder, content, steps, limits)[1]))
    result.load()
    return result


def refusal(folder: Path, content: bytes, steps: str = processing.DEFAULT, limits: Limits = LIMITS) -> PictureRefused:
    with pytest.raises(PictureRefused) as refused:
        render(folder, content, steps, limits)
    assert not (folder / "target").exists()
    return refused.value


def quarters(width: int, height: int) -> Image.Image:
    """Red, green / blue, white."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(GREEN, (width // 2, 0, width, height))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(WHITE, (width // 2, height // 2, width, height))
    return picture


def corners(picture: Image.Image) -> list[Any]:
    """Top left, top right, bottom left, bottom right, away from the edges."""
    width, height = picture.size
    return [picture.getpixel((x, y)) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]


def is_near(one: Any, other: Any, by: int = 6) -> bool:
    """Of pixels, or of sequences of them."""
    if isinstance(one, int) and isinstance(other, int):
        return abs(one - other) <= by
    return all(is_near(a, b, by) for a, b in zip(one, other, strict=True))
