"""What is written of an animation: as many frames and as long as was read, colours as they are, and in little memory."""

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from common.formats import Format
from common.images import FailureCode
from tests.pictures import photo
from tests.rendering import BLUE, RED, is_near, refusal, render
from worker.decoding.canvas import Disposal, Part, composed
from worker.decoding.picture import Frame
from worker.encoding import encode

KEPT = (Format.GIF, Format.PNG, Format.WEBP)


def _written(kind: Format, frames: list[Image.Image], times: list[int], loops: int = 0) -> Image.Image:
    given = (Frame(image=frame, duration_ms=time) for frame, time in zip(frames, times, strict=True))
    return Image.open(io.BytesIO(encode(given, kind, 90, count=len(frames), loops=loops)))


def _frames(picture: Image.Image) -> Iterator[Image.Image]:
    for number in range(getattr(picture, "n_frames", 1)):
        picture.seek(number)
        picture.load()
        yield picture


def _times(picture: Image.Image) -> list[Any]:
    return [frame.info.get("duration", 0) for frame in _frames(picture)]


@pytest.mark.parametrize("kind", [Format.GIF, Format.PNG])
def test_frames_that_are_the_same_are_all_written(kind: Format) -> None:
    written = _written(kind, [Image.new("RGB", (20, 10), colour) for colour in (RED, RED, BLUE, BLUE)], [100, 200, 300, 400])

    assert _times(written) == [100, 200, 300, 400]


def test_webp_makes_one_of_frames_that_are_the_same_and_shows_it_as_long() -> None:
    written = _written(Format.WEBP, [Image.new("RGB", (20, 10), colour) for colour in (RED, RED, BLUE, BLUE)], [100, 200, 300, 400])

    assert _times(written) == [300, 700]


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ([33] * 6, [30, 40, 30, 30, 40, 30]),
        ([17, 17, 16, 17, 17, 16], [20, 20, 20, 20, 20, 20]),
        ([0, 10, 10, 20], [0, 10, 10, 20]),
        ([15, 15, 15, 15, 100], [20, 20, 20, 20, 80]),
        ([5_000_000, 10], [655_350, 10]),
    ],
)
def test_hundredths_of_a_second_in_a_gif(given: list[int], written: list[int]) -> None:
    """What one frame gets too much the next ones get less. None that lasts gets less than 20 ms: browsers show such for 100 ms."""
    frames = [photo(8, 8, seed) for seed in range(len(given))]

    assert _times(_written(Format.GIF, frames, given)) == written


@pytest.mark.parametrize(
    ("given", "written"), [([17, 33], [17, 33]), ([65_536, 90_001], [65_540, 90_000]), ([0, 80_000_000], [0, 65_535_000])]
)
def test_seconds_and_their_fractions_in_a_png(given: list[int], written: list[int]) -> None:
    assert _times(_written(Format.PNG, [photo(8, 8, 1), photo(8, 8, 2)], given)) == written


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_mode_moves(kind: Format, mode: str) -> None:
    frames = [Image.new(mode, (16, 8)) for _ in range(2)]
    frames[0].paste("white", (0, 0, 8, 8))
    frames[1].paste("white", (8, 0, 16, 8))

    seen = [frame.convert("RGBA") for frame in _frames(_written(kind, frames, [100, 100]))]

    assert [[is_near(frame.getpixel((x, 4)), (255, 255, 255, 255)) for x in (4, 12)] for frame in seen] == [
        [True, False],
        [False, True],
    ]
    if mode.endswith("A"):
        assert seen[1].getpixel((4, 4))[3] == 0  # type: ignore[index]  # of RGBA it is four numbers


@pytest.mark.parametrize(("colours", "alpha"), [(256, False), (255, True)])
def test_a_gif_has_as_many_colours_as_there_is_room_for(colours: int, alpha: bool) -> None:
    picture = Image.new("RGBA", (16, 16))
    for number in range(colours):
        picture.putpixel((number % 16, number // 16), (number, 255 - number, number * 7 % 256, 255))
    picture = picture if alpha else picture.convert("RGB")

    assert _written(Format.GIF, [picture], [0]).convert(picture.mode).tobytes() == picture.tobytes()


@pytest.mark.parametrize("levels", [254, 256])
def test_gray_beside_transparency_in_a_gif(levels: int) -> None:
    picture = Image.new("LA", (300, 1))
    for level in range(levels):
        picture.putpixel((level, 0), (level, 255))

    written = _written(Format.GIF, [picture], [0]).convert("LA")

    assert written.getchannel("A").tobytes() == picture.getchannel("A").tobytes()
    pairs = zip(written.getchannel("L").tobytes(), range(levels), strict=False)
    assert max(abs(one - other) for one, other in pairs) == (1 if levels == 256 else 0)


def test_many_colours_are_mixed_from_few_in_a_gif() -> None:
    """Seen from afar, little has changed, and nothing on the whole."""
    picture = photo(200, 150)

    written = _written(Format.GIF, [picture], [0]).convert("RGB")

    small, expected = (one.resize((20, 15), Image.Resampling.BOX) for one in (written, picture))
    assert max(ImageStat.Stat(ImageChops.difference(small, expected)).mean) < 3
    assert is_near(
        [round(mean) for mean in ImageStat.Stat(small).mean], [round(mean) for mean in ImageStat.Stat(expected).mean], by=2
    )


def test_a_still_gif_says_nothing_of_times_and_loops() -> None:
    content = encode(iter([Frame(image=photo(20, 10), duration_ms=120)]), Format.GIF, 85, count=1, loops=0)

    assert b"NETSCAPE" not in content
    assert b"\x21\xf9" not in content


# Composing


def _composed(*parts: tuple[Image.Image, tuple[int, int], Disposal, bool]) -> list[Image.Image]:
    """On 4 × 1 pixels."""
    given = [
        Part(box=(x, y, x + image.width, y + image.height), decoded=image.copy, duration_ms=1, disposal=disposal, replaces=replaces)
        for image, (x, y), disposal, replaces in parts
    ]
    return [frame.image for frame in composed((4, 1), "RGB", given)]


def test_half_transparent_parts_are_mixed_by_their_alpha() -> None:
    """Over half of red, half of blue: as W3C's Compositing Level 1 has it, section 9.1.4 (source over)."""
    red, blue = Image.new("RGBA", (4, 1), (255, 0, 0, 128)), Image.new("RGBA", (2, 1), (0, 0, 255, 128))

    _, over = _composed((red, (0, 0), Disposal.KEEP, False), (blue, (0, 0), Disposal.KEEP, False))
    _, instead = _composed((red, (0, 0), Disposal.KEEP, False), (blue, (0, 0), Disposal.KEEP, True))

    assert is_near(over.getpixel((0, 0)), (85, 0, 170, 192), by=1)
    assert over.getpixel((3, 0)) == (255, 0, 0, 128)
    assert instead.getpixel((0, 0)) == (0, 0, 255, 128)


def test_what_lies_beyond_the_canvas_is_cut_off() -> None:
    whole, beyond = Image.new("RGB", (4, 1), RED), Image.new("RGB", (4, 2), BLUE)

    _, last = _composed((whole, (0, 0), Disposal.KEEP, False), (beyond, (3, 0), Disposal.KEEP, False))

    assert (last.mode, last.size) == ("RGB", (4, 1))
    assert [last.getpixel((x, 0)) for x in range(4)] == [RED, RED, RED, BLUE]


@pytest.mark.parametrize("disposal", Disposal)
def test_what_becomes_of_a_part_when_its_time_is_over(disposal: Disposal) -> None:
    red, blue = Image.new("RGB", (4, 1), RED), Image.new("RGB", (1, 1), BLUE)

    frames = _composed((red, (0, 0), Disposal.KEEP, False), (blue, (0, 0), disposal, False), (blue, (3, 0), Disposal.KEEP, False))

    left = {Disposal.KEEP: (*BLUE, 255), Disposal.CLEAR: (0, 0, 0, 0), Disposal.RESTORE: (*RED, 255)}[disposal]
    assert [frames[2].convert("RGBA").getpixel((x, 0)) for x in (0, 1, 3)] == [left, (*RED, 255), (*BLUE, 255)]
    assert {frame.mode for frame in frames} == {"RGBA" if disposal is Disposal.CLEAR else "RGB"}


# Damage


def test_a_frame_whose_pixels_end_early_is_damage(tmp_path: Path) -> None:
    """In a file that is whole otherwise, where Pillow would stop without a word."""
    frames = [photo(64, 48, seed) for seed in (1, 2, 3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100)
    whole = buffer.getvalue()
    # The last block of the last frame goes; its end and the trailer stay.
    position = whole.rindex(b"\x2c\0\0\0\0\x40\0\x30\0") + 10 + 768 + 1
    while whole[position + 1 + whole[position]]:
        last, position = position, position + 1 + whole[position]
    broken = whole[:position] + b"\0;"
    assert last < position

    assert refusal(tmp_path, broken, "resize:20").failure_code is FailureCode.CORRUPT_IMAGE


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    """Python's own; Pillow's pixels are held down by the pool's test."""
    frame = photo(64, 48)
    taken = []
    for count in (10, 100):
        still = (Frame(image=frame.copy(), duration_ms=10) for _ in range(count))
        content = encode(still, Format.GIF, 85, count=count, loops=0)
        tracemalloc.start()
        render(tmp_path, content, "resize:32|format:gif")
        taken.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert taken[1] < taken[0] + 400_000
