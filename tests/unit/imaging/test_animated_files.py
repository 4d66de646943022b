"""Animations that other programs made (tests/data/animations/README.md says how), through every output that keeps them."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.formats import Limits
from common.images import FailureCode
from gateway.inspection import inspect
from tests.rendering import BLUE, GREEN, RED, WHITE, is_near, refusal, render

FOLDER = Path(__file__).parents[2] / "data" / "animations"
NOTHING = None
SQUARES = (RED, GREEN, BLUE)


@dataclass(frozen=True)
class Made:
    """`loops`: how often it is shown in all, 0 for ever; `ground`: what is around the squares."""

    name: str
    loops: int
    ground: Any = WHITE
    times: tuple[int, ...] = (50, 120, 200)
    size: tuple[int, int] = (24, 16)
    begins_empty: bool = False


MADE = [
    Made("gifsicle-optimized.gif", 0),
    Made("gifsicle-cleared-once.gif", 1, NOTHING),
    Made("gifsicle-restored-interlaced.gif", 3, times=(50, 50, 120, 200), begins_empty=True),
    Made("imagemagick-global.gif", 0),
    Made("imagemagick-optimized.gif", 0),
    Made("ffmpeg.gif", 0, times=(100, 100, 100)),
    Made("ffmpeg.png", 3, times=(100, 100, 100)),
    Made("apngasm.png", 2, NOTHING),
    Made("apngasm-default-image.png", 0),
    Made("gif2webp-cleared-once.webp", 1, NOTHING),
    Made("gif2webp-lossy.webp", 0),
    Made("img2webp.webp", 2),
    Made("webpmux-small-cleared.webp", 0, NOTHING, size=(24, 12)),
]


def _shown(content: bytes) -> tuple[list[list[Any]], list[float], int]:
    """→ of each frame what is in the middle of each square (None where nothing is), the milliseconds, how often it is shown."""
    picture = Image.open(io.BytesIO(content))
    frames, times = [], []
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        picture.load()
        times.append(picture.info.get("duration", 0))
        pixels: list[Any] = [picture.convert("RGBA").getpixel((x, picture.height // 2)) for x in (4, 12, 20)]
        frames.append([pixel[:3] if pixel[3] > 127 else NOTHING for pixel in pixels])
    loops = picture.info.get("loop")
    if picture.format == "GIF":
        loops = 1 if loops is None else loops + 1 if loops else 0
    return frames, times, loops or 0


def _expected(made: Made) -> list[list[Any]]:
    frames = [[colour if place == number else made.ground for place in range(3)] for number, colour in enumerate(SQUARES)]
    return [[made.ground] * 3] * made.begins_empty + frames


def _is_alike(one: Any, other: Any) -> bool:
    return one is other if one is NOTHING or other is NOTHING else is_near(one, other, by=40)


@pytest.mark.parametrize("output", ["gif", "png", "webp"])
@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_an_animation_stays_what_it_is(made: Made, output: str, tmp_path: Path) -> None:
    rendered, content = render(tmp_path, (FOLDER / made.name).read_bytes(), f"flip|flip|format:{output}")

    frames, times, loops = _shown(content)
    assert (rendered.width, rendered.height) == made.size == Image.open(io.BytesIO(content)).size
    assert times == list(made.times)
    assert loops == made.loops
    for frame, expected in zip(frames, _expected(made), strict=True):
        assert all(_is_alike(one, other) for one, other in zip(frame, expected, strict=True)), (frame, expected)


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_the_gateway_sees_the_same(made: Made) -> None:
    seen = inspect(FOLDER / made.name, Limits())

    assert (seen.width, seen.height, seen.frames) == (*made.size, len(made.times))


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_cut_at_every_eighth_it_is_refused(made: Made, tmp_path: Path) -> None:
    whole = (FOLDER / made.name).read_bytes()

    for eighth in range(1, 8):
        assert refusal(tmp_path, whole[: len(whole) * eighth // 8]).failure_code is FailureCode.CORRUPT_IMAGE, eighth
    assert refusal(tmp_path, whole[:-1]).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_the_first_frame_is_taken_where_there_can_be_one_only(made: Made, tmp_path: Path) -> None:
    _, content = render(tmp_path, (FOLDER / made.name).read_bytes(), "flip|flip|format:bmp")

    (frame,), _, _ = _shown(content)
    assert is_near(frame, [WHITE if made.begins_empty else RED, WHITE, WHITE], by=40)
