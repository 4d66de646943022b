"""GIF, WebP and APNG: every frame, its time and the loop are kept where the output can, and no cut one passes."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.errors import PictureRefused
from common.formats import Limits
from common.images import FailureCode
from tests.pictures import photo
from tests.rendering import BLUE, GREEN, RED, is_near, refusal, render

KINDS = ("GIF", "WEBP", "PNG")
COLOURS = (RED, GREEN, BLUE)
DURATIONS = [50, 120, 200]


def _animation(kind: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    """Red, green, blue, for 50, 120 and 200 ms."""
    frames = [Image.new("RGB", size, colour) for colour in COLOURS]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        kind,
        **({"save_all": True, "append_images": frames[1:], "duration": DURATIONS, "loop": 0, "lossless": True} | options),
    )
    return buffer.getvalue()


def _frames(content: bytes) -> list[tuple[Any, float]]:
    """→ the middle pixel in RGB and the milliseconds of each frame."""
    picture = Image.open(io.BytesIO(content))
    found = []
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        picture.load()
        found.append((picture.convert("RGB").getpixel((picture.width // 2, picture.height // 2)), picture.info.get("duration", 0)))
    return found


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_their_times_are_kept(kind: str, output: str, tmp_path: Path) -> None:
    rendered, content = render(tmp_path, _animation(kind), f"resize:80|format:{output.lower()}")

    frames = _frames(content)
    assert (rendered.width, rendered.height) == (80, 60)
    assert Image.open(io.BytesIO(content)).size == (80, 60)
    assert [time for _, time in frames] == DURATIONS
    assert is_near([colour for colour, _ in frames], COLOURS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_is_an_animation_in_gray(kind: str, tmp_path: Path) -> None:
    rendered, content = render(tmp_path, _animation(kind))

    assert (rendered.width, rendered.height, rendered.content_type) == (800, 600, f"image/{kind.lower()}")
    assert is_near([colour for colour, _ in _frames(content)], [(76,) * 3, (150,) * 3, (29,) * 3])


@pytest.mark.parametrize("output", ["jpeg", "tiff", "bmp"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_frame_is_taken_where_there_can_be_one_only(kind: str, output: str, tmp_path: Path) -> None:
    _, content = render(tmp_path, _animation(kind), f"resize:20|format:{output}")

    assert is_near([colour for colour, _ in _frames(content)], [RED])


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize(("loops", "said"), [({"loop": 0}, 0), ({}, None), ({"loop": 2}, 2)])
def test_how_often_it_is_shown(output: str, loops: dict[str, int], said: int | None, tmp_path: Path) -> None:
    """A GIF says how often again; the others say how often in all."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], **loops)

    _, content = render(tmp_path, buffer.getvalue(), f"flip|format:{output.lower()}")

    found = Image.open(io.BytesIO(content)).info.get("loop")
    if output == "GIF":
        assert found == said
    else:
        assert found == (1 if said is None else said + 1 if said else 0)


def test_partial_frames_are_put_on_what_was_there(tmp_path: Path) -> None:
    """Made by hand: a red picture of 4 × 4, then a blue point in it that replaces nothing else."""
    content = (
        b"GIF89a\x04\0\x04\0\x80\0\0"
        + bytes([255, 0, 0, 0, 0, 255])
        + b"\x21\xf9\x04\x04\x0a\0\0\0\x2c\0\0\0\0\x04\0\x04\0\0\x02\x04\x84\x8f\x09\x05\0"
        + b"\x21\xf9\x04\x04\x0a\0\0\0\x2c\x02\0\x02\0\x01\0\x01\0\0\x02\x02\x4c\x01\0\x3b"
    )

    rendered, result = render(tmp_path, content, "flip|flip|format:png")

    picture = Image.open(io.BytesIO(result))
    picture.seek(1)
    seen = picture.convert("RGB")
    assert (rendered.width, rendered.height) == (4, 4)
    assert [seen.getpixel(place) for place in ((0, 0), (2, 2), (3, 3))] == [RED, BLUE, RED]


@pytest.mark.parametrize("output", KINDS)
def test_what_is_transparent_in_a_frame_shows_no_other_frame(output: str, tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (20, 10), (0, 0, 0, 0)) for _ in range(2)]
    frames[0].paste((255, 0, 0, 255), (0, 0, 10, 10))
    frames[1].paste((0, 0, 255, 255), (10, 0, 20, 10))
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=100)

    _, content = render(tmp_path, buffer.getvalue(), f"flip|format:{output.lower()}")

    picture = Image.open(io.BytesIO(content))
    picture.seek(1)
    seen = picture.convert("RGBA")
    assert [seen.getpixel((x, 5))[3] for x in (5, 15)] == [0, 255]  # type: ignore[index]  # of RGBA it is four numbers


def test_the_picture_for_others_is_no_frame(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    shown = [Image.new("RGB", (8, 8), colour) for colour in COLOURS]
    shown[0].save(buffer, "PNG", save_all=True, append_images=shown[1:], default_image=True, duration=100)

    assert is_near([colour for colour, _ in _frames(render(tmp_path, buffer.getvalue(), "flip")[1])], [GREEN, BLUE])


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_animation_is_refused_at_every_eighth(kind: str, tmp_path: Path) -> None:
    frames = [photo(64, 48, seed) for seed in (1, 2, 3, 4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=100)
    whole = buffer.getvalue()
    assert len(_frames(render(tmp_path, whole, "resize:20")[1])) == 4

    for eighth in range(1, 8):
        cut = whole[: len(whole) * eighth // 8]
        assert refusal(tmp_path, cut, "resize:20").failure_code is FailureCode.CORRUPT_IMAGE, eighth


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", [Limits(frames=2), Limits(pixels=1199), Limits(total_pixels=3599)])
def test_limits_hold_for_frames(kind: str, limits: Limits, tmp_path: Path) -> None:
    assert refusal(tmp_path, _animation(kind), "flip", limits).failure_code is FailureCode.LIMIT_EXCEEDED


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_limits_it_passes(kind: str, tmp_path: Path) -> None:
    try:
        render(tmp_path, _animation(kind), "flip", Limits(frames=3, pixels=1200, total_pixels=3600))
    except PictureRefused as refused:
        pytest.fail(refused.detail)
