"""The header check of WebPs."""

from pathlib import Path

import pytest

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from tests.hostile_files import animated_webp, riff_chunk, webp, webp_canvas, webp_frame, webp_picture
from tests.pictures import exif_block
from tests.unit.inspection.conftest import Inspect

DATA = Path(__file__).parents[2] / "data" / "inspection"
ANIM = riff_chunk(b"ANIM", bytes(6))
LOSSY = (DATA / "cwebp-lossy.webp").read_bytes()


@pytest.mark.parametrize(
    ("name", "size", "frames"),
    [
        ("cwebp-lossy.webp", (24, 16), 1),
        ("cwebp-lossless.webp", (24, 16), 1),
        ("cwebp-alpha.webp", (24, 16), 1),
        ("exiftool-orientation-6.webp", (16, 24), 1),
        ("gif2webp.webp", (24, 16), 3),
    ],
)
def test_files_of_other_programs_pass(name: str, size: tuple[int, int], frames: int, inspected: Inspect) -> None:
    found = inspected((DATA / name).read_bytes())

    assert (found.content_type, found.width, found.height, found.frames) == ("image/webp", *size, frames)


@pytest.mark.parametrize(("flags", "size"), [(0x08, (7, 9)), (0, (9, 7))])
def test_exif_counts_where_it_is_announced(flags: int, size: tuple[int, int], inspected: Inspect) -> None:
    """As libwebp has it."""
    found = inspected(webp(webp_canvas((9, 7), flags), webp_picture((9, 7)), riff_chunk(b"EXIF", exif_block(6))))

    assert (found.width, found.height) == size


def test_the_canvas_counts_for_every_frame(inspected: Inspect) -> None:
    content = animated_webp((9, 7), [(0, 0, 9, 7), (2, 4, 1, 1)])

    assert inspected(content, Limits(total_pixels=126)).frames == 2
    with pytest.raises(TooLarge, match="2 frames of 9 × 7"):
        inspected(content, Limits(total_pixels=125))


@pytest.mark.parametrize(
    ("bomb", "words"),
    [
        (webp(webp_picture((16_384, 16_384))), "16384 × 16384"),
        (webp(webp_canvas((1 << 24, 255))), "16777216 × 255"),
        (webp(webp_canvas((9, 7)), webp_picture((16_384, 16_384))), "16384 × 16384"),
        (animated_webp((1000, 1000), [(0, 0, 1, 1)] * 201), "201 frames of 1000 × 1000"),
        (animated_webp((1, 1), [(0, 0, 1, 1)] * 301), "more than 300 frames"),
    ],
)
def test_a_bomb_is_too_large(bomb: bytes, words: str, inspected: Inspect) -> None:
    assert len(bomb) < 20_000
    with pytest.raises(TooLarge, match=words):
        inspected(bomb)


def _lossy_with(place: int, value: int) -> bytes:
    """One byte changed, counted from the beginning of the lossy picture."""
    content = bytearray(LOSSY)
    content[20 + place] = value
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        webp(),
        webp(riff_chunk(b"JUNK", b"")),
        webp(riff_chunk(b"VP8X", bytes(4))),
        webp(riff_chunk(b"VP8L", b"\x2f\0\0")),
        webp(riff_chunk(b"VP8L", b"\x2e" + bytes(8))),
        webp(riff_chunk(b"VP8L", b"\x2f\0\0\0\xff" + bytes(4))),
        webp(riff_chunk(b"VP8 ", bytes(4))),
        _lossy_with(0, LOSSY[20] | 1),
        _lossy_with(0, LOSSY[20] | 0xE),
        _lossy_with(0, LOSSY[20] & ~0x10),
        _lossy_with(2, 0xFF),
        _lossy_with(3, 0),
        _lossy_with(6, 0),
        webp(webp_canvas((9, 7))),
        webp(webp_canvas((9, 8)), webp_picture((9, 7))),
        webp(webp_canvas((9, 7)), webp_picture((9, 7)), webp_picture((9, 7))),
        webp(webp_canvas((9, 7), 2), ANIM),
        webp(webp_canvas((9, 7), 2), webp_frame((0, 0, 9, 7))),
        webp(webp_canvas((9, 7), 0), ANIM, webp_frame((0, 0, 9, 7))),
        webp(webp_canvas((9, 7), 2), ANIM, webp_picture((9, 7))),
        webp(webp_canvas((9, 7), 2), ANIM, webp_frame((0, 0, 9, 7), webp_picture((9, 6)))),
        webp(webp_canvas((9, 7), 2), ANIM, webp_frame((0, 0, 9, 7), b"")),
        webp(webp_canvas((9, 7), 2), ANIM, riff_chunk(b"ANMF", bytes(8))),
        animated_webp((9, 7), [(2, 0, 9, 7)]),
        animated_webp((9, 7), [(0, 2, 9, 7)]),
        webp(webp_canvas((9, 7)), webp_picture((9, 7)), b"EXIF\xff\xff\xff\xff"),
        webp(webp_canvas((9, 7)), webp_picture((9, 7)), b"EXI"),
    ],
)
def test_a_malformed_file_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)


def test_a_container_larger_than_the_file_is_cut_off(inspected: Inspect) -> None:
    picture = webp_picture((9, 7))

    assert inspected(webp(picture)).width == 9
    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(webp(picture, riff_bytes=5 + len(picture)))
