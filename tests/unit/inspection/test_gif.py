"""The header check of GIFs."""

from pathlib import Path

import pytest

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from tests.hostile_files import gif, gif_bomb, gif_frame
from tests.unit.inspection.conftest import Inspect

DATA = Path(__file__).parents[2] / "data" / "inspection"
WHOLE = (0, 0, 8, 6)


@pytest.mark.parametrize(
    ("name", "frames"),
    [("gifsicle.gif", 3), ("gifsicle-small-screen.gif", 1), ("imagemagick-part.gif", 2), ("imagemagick-interlaced.gif", 1)],
)
def test_files_of_other_programs_pass(name: str, frames: int, inspected: Inspect) -> None:
    found = inspected((DATA / name).read_bytes())

    assert (found.content_type, found.width, found.height, found.frames) == ("image/gif", 24, 16, frames)


@pytest.mark.parametrize(
    ("screen", "frames", "size"),
    [
        ((8, 6), [(2, 2, 3, 3)], (8, 6)),
        ((8, 6), [(4, 4, 8, 6)], (12, 10)),
        ((0, 0), [(2, 2, 3, 3)], (5, 5)),
        ((8, 6), [WHOLE, (4, 4, 8, 6)], (8, 6)),
    ],
    ids=["a part", "first beyond", "no screen", "second beyond"],
)
def test_the_size_is_the_screens_and_the_first_frames(
    screen: tuple[int, int], frames: list[tuple[int, int, int, int]], size: tuple[int, int], inspected: Inspect
) -> None:
    found = inspected(gif(screen, frames))

    assert (found.width, found.height, found.frames) == (*size, len(frames))


def test_what_reaches_beyond_the_picture_counts_for_the_limits(inspected: Inspect) -> None:
    content = gif((8, 6), [WHOLE, (92, 0, 8, 6)])

    assert inspected(content, Limits(pixels=600, total_pixels=1200)).width == 8
    with pytest.raises(TooLarge):
        inspected(content, Limits(pixels=599))
    with pytest.raises(TooLarge):
        inspected(content, Limits(total_pixels=1199))


@pytest.mark.parametrize(
    "before",
    [
        b"\x21\xfe\0",
        b"\x21\xfe\3abc\0",
        b"\x21\xff\x0bNETSCAPE2.0\0",
        b"\x21\xf9\4\0\0\0\0\0" * 3,
        b"\x21\x01\0",
        b"\x21\x99\2,;\0",
        b"\0\0",
    ],
)
def test_extensions_are_passed_over_whatever_they_say(before: bytes, inspected: Inspect) -> None:
    assert inspected(gif((8, 6), [WHOLE, WHOLE], before=before)).frames == 2


@pytest.mark.parametrize(
    ("bomb", "words"),
    [
        (gif_bomb((1000, 1000), 201), "201 frames of 1000 × 1000"),
        (gif_bomb((1, 1), 301), "more than 300 frames"),
        (gif_bomb((65_535, 65_535), 1), "65535 × 65535"),
        (gif((9, 9), [], trailer=gif_frame((65_535, 65_535, 65_535, 65_535), pixels=1)), "131070 × 131070"),
    ],
)
def test_a_bomb_is_too_large(bomb: bytes, words: str, inspected: Inspect) -> None:
    with pytest.raises(TooLarge, match=words):
        inspected(bomb)


def test_a_file_without_its_trailer_is_cut_off(inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(gif((8, 6), [WHOLE, WHOLE], trailer=b""))


@pytest.mark.parametrize(
    "content",
    [
        gif((8, 6), []),
        gif((8, 6), [(0, 0, 0, 6)]),
        gif((8, 6), [(0, 0, 8, 0)]),
        gif((8, 6), [WHOLE], before=b"/*<script>*/"),
        gif((8, 6), [WHOLE]).replace(b"\0\2\x25", b"\0\xc8\x25"),
    ],
    ids=["no frame", "no width", "no height", "text between blocks", "code size"],
)
def test_a_malformed_file_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)
