"""BMP of every depth, RLE, masks and alpha, with rows in either direction."""

import struct
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from common.formats import Limits
from common.images import FailureCode
from tests.pictures import photo, stored
from tests.rendering import BLUE, GREEN, QUARTERS, RED, WHITE, corners, image, is_near, refusal

ALPHAS = (51, 102, 204, 255)
PALETTE = b"".join(bytes((blue, green, red, 0)) for red, green, blue in QUARTERS)
PLAIN, RLE8, RLE4, MASKS = range(4)


def bmp(
    width: int,
    height: int,
    bits: int,
    pixels: bytes,
    *,
    coded: int = PLAIN,
    palette: bytes = b"",
    more: bytes = b"",
    length: int = 40,
) -> bytes:
    """Put together by hand, with a header of `length` bytes of which `more` are the last ones."""
    header = struct.pack("<IiiHHIIiiII", length, width, height, 1, bits, coded, len(pixels), 0, 0, len(palette) // 4, 0) + more
    offset = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def pixels_of(result: Image.Image) -> list[object]:
    return [result.getpixel((x, y)) for y in range(result.height) for x in range(result.width)]


# As ImageMagick and Netpbm make them


@pytest.mark.parametrize("name", ["24", "os2", "os2-4", "netpbm-8", "palette", "rle8", "565", "555"])
def test_colours(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(f"{name}.bmp"), "resize:92|format:png")

    assert (result.mode, result.size) == ("RGB", (92, 64))
    assert corners(result) == list(QUARTERS)


def test_one_bit_is_gray(tmp_path: Path) -> None:
    result = image(tmp_path, stored("mono.bmp"), "resize:96|format:png")

    assert (result.mode, corners(result)) == ("L", [0, 255, 0, 255])


@pytest.mark.parametrize("name", ["alpha-32", "alpha-4444"])
def test_alpha_behind_a_mask(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(f"{name}.bmp"), "resize:92|format:png")

    assert is_near(corners(result), [(*colour, alpha) for colour, alpha in zip(QUARTERS, ALPHAS, strict=True)], by=2)


# Put together by hand


def test_rows_that_run_downwards(tmp_path: Path) -> None:
    up, down = (bmp(1, height, 24, b"\0\0\xff\0\0\xff\0\0") for height in (2, -2))

    assert pixels_of(image(tmp_path, up, "format:png")) == [GREEN, RED]
    assert pixels_of(image(tmp_path, down, "format:png")) == [RED, GREEN]


def test_runs_of_bytes(tmp_path: Path) -> None:
    """RLE8, from the bottom: a run; pixels as they are and a byte to fill up; a step to the right, and a run; the end."""
    rows = b"\3\1\0\0" + b"\0\3\2\3\2\0\0\0" + b"\0\2\1\0\2\3\0\1"

    result = image(tmp_path, bmp(3, 3, 8, rows, coded=RLE8, palette=PALETTE), "format:png")

    assert pixels_of(result) == [RED, WHITE, WHITE, BLUE, WHITE, BLUE, GREEN, GREEN, GREEN]


def test_runs_of_half_bytes(tmp_path: Path) -> None:
    """RLE4, from the bottom: two colours by turns; pixels as they are, three bytes and one to fill up; a run beyond the row."""
    rows = b"\5\x12\0\0" + b"\0\5\x01\x23\x10\0\0\0" + b"\7\x33\0\1"

    result = image(tmp_path, bmp(5, 3, 4, rows, coded=RLE4, palette=PALETTE), "format:png")

    assert pixels_of(result) == [WHITE] * 5 + [RED, GREEN, BLUE, WHITE, GREEN] + [GREEN, BLUE, GREEN, BLUE, GREEN]


def test_a_long_run_of_photos_pixels_is_as_pillow_reads_it(tmp_path: Path) -> None:
    # given each pixel as a run of one, with the row's end and the bitmap's
    picture = photo(61, 23).convert("P")
    palette = b"".join(
        bytes((blue, green, red, 0)) for red, green, blue in zip(*[iter(picture.getpalette() or [])] * 3, strict=True)
    )
    levels = picture.tobytes()
    rows = b"".join(
        b"".join(bytes((1, level)) for level in levels[row * 61 : row * 61 + 61]) + b"\0\0" for row in range(22, -1, -1)
    )

    result = image(tmp_path, bmp(61, 23, 8, rows + b"\0\1", coded=RLE8, palette=palette), "format:png")

    assert ImageChops.difference(result, picture.convert("RGB")).getbbox() is None


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_a_palette_of_grays_makes_gray(tmp_path: Path, depth: int) -> None:
    palette = bytes((200, 200, 200, 0, 30, 30, 30, 0))
    pixels = {1: b"\x40", 4: b"\x01", 8: b"\0\1"}[depth].ljust(4, b"\0")

    result = image(tmp_path, bmp(2, 1, depth, pixels, palette=palette), "format:png")

    assert (result.mode, result.tobytes()) == ("L", bytes((200, 30)))


def test_colours_that_a_palette_lacks_are_black(tmp_path: Path) -> None:
    result = image(tmp_path, bmp(2, 1, 8, b"\0\x09\0\0", palette=PALETTE), "format:png")

    assert pixels_of(result) == [RED, (0, 0, 0)]


@pytest.mark.parametrize(
    ("masks", "pixel", "colour"),
    [
        ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0x80FF6432, (255, 100, 50, 128)),
        ((0xFF, 0xFF00, 0xFF0000, 0xFF000000), 0x803264FF, (255, 100, 50, 128)),
        ((0xFF000000, 0xFF0000, 0xFF00, 0xFF), 0xFF643280, (255, 100, 50, 128)),
        ((0xFF000000, 0xFF0000, 0xFF00, 0), 0xFF643280, (255, 100, 50)),
        ((0xFF0000, 0xFF00, 0xFF, 0), 0x80FF6432, (255, 100, 50)),
        ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0x00FF6432, (255, 100, 50)),
    ],
    ids=["argb", "abgr", "rgba", "rgbx", "xrgb", "alpha-unset"],
)
def test_thirty_two_bits_by_masks(tmp_path: Path, masks: tuple[int, ...], pixel: int, colour: tuple[int, ...]) -> None:
    more = struct.pack("<IIII", *masks)

    result = image(tmp_path, bmp(1, 1, 32, struct.pack("<I", pixel), coded=MASKS, more=more, length=56), "format:png")

    assert result.getpixel((0, 0)) == colour


@pytest.mark.parametrize(
    ("masks", "pixel", "colour"),
    [
        ((0xF800, 0x7E0, 0x1F, 0), 0xFFE0, (255, 255, 0)),
        ((0x7C00, 0x3E0, 0x1F, 0), 0x7C10, (255, 0, 132)),
        ((0x7C00, 0x3E0, 0x1F, 0x8000), 0x801F, (0, 0, 255, 255)),
        ((0xF00, 0xF0, 0xF, 0xF000), 0x8F73, (255, 119, 51, 136)),
    ],
    ids=["565", "555", "1555", "4444"],
)
def test_sixteen_bits_by_masks(tmp_path: Path, masks: tuple[int, ...], pixel: int, colour: tuple[int, ...]) -> None:
    more = struct.pack("<IIII", *masks)

    result = image(tmp_path, bmp(1, 1, 16, struct.pack("<HH", pixel, 0), coded=MASKS, more=more, length=56), "format:png")

    assert result.getpixel((0, 0)) == colour


def test_the_fourth_byte_means_nothing_without_a_mask(tmp_path: Path) -> None:
    result = image(tmp_path, bmp(1, 1, 32, bytes((50, 100, 255, 7))), "format:png")

    assert (result.mode, result.getpixel((0, 0))) == ("RGB", (255, 100, 50))


# Refused


@pytest.mark.parametrize(
    "content",
    [
        bmp(1, 1, 24, bytes(4), coded=4),
        bmp(1, 1, 24, bytes(4), coded=5),
        bmp(1, 1, 32, bytes(4), coded=MASKS, more=struct.pack("<IIII", 0x3FF00000, 0xFFC00, 0x3FF, 0), length=56),
        bmp(1, 1, 1, bytes(4), coded=MASKS, more=bytes(24), length=64),
        bmp(1, 1, 2, bytes(4)),
    ],
    ids=["jpeg", "png", "ten-bits", "huffman", "two-bits"],
)
def test_what_is_not_decoded_is_refused_with_a_word_about_why(tmp_path: Path, content: bytes) -> None:
    refused = refusal(tmp_path, content)

    assert refused.failure_code is FailureCode.CORRUPT_IMAGE
    assert "not supported" in refused.detail


def test_the_last_row_need_not_be_filled_up(tmp_path: Path) -> None:
    content = bmp(3, 2, 24, bytes(12 + 9))

    assert image(tmp_path, content, "format:png").size == (3, 2)
    assert refusal(tmp_path, content[:-1]).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize(
    "rows",
    [b"", b"\3", b"\3\1", b"\3\1\0\0\3\1", b"\3\1\0\1", b"\3\1\0\0\3\1\0\1", b"\3\1\0\0\3\1\0\0\0", b"\3\1\0\0\3\1\0\0\0\3\1",
     b"\0\2\0"],
)  # fmt: skip
def test_runs_that_end_early_are_refused(tmp_path: Path, rows: bytes) -> None:
    assert refusal(tmp_path, bmp(3, 3, 8, rows, coded=RLE8, palette=PALETTE)).failure_code is FailureCode.CORRUPT_IMAGE


def test_a_cut_palette_is_refused(tmp_path: Path) -> None:
    content = bytearray(bmp(1, 1, 8, bytes(4), palette=PALETTE))
    struct.pack_into("<I", content, 46, 200)
    assert refusal(tmp_path, bytes(content)).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-1, 1)])
def test_no_pixels_are_refused(tmp_path: Path, width: int, height: int) -> None:
    assert refusal(tmp_path, bmp(width, height, 24, bytes(8))).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (10_000, -10_000), (2**31 - 1, -(2**31))])
def test_more_pixels_than_are_allowed_are_refused(tmp_path: Path, width: int, height: int) -> None:
    for coded in (PLAIN, RLE8):
        content = bmp(width, height, 8, bytes(8), coded=coded, palette=PALETTE)
        assert refusal(tmp_path, content).failure_code is FailureCode.LIMIT_EXCEEDED


def test_limits_are_looked_at_first(tmp_path: Path) -> None:
    assert refusal(tmp_path, stored("24.bmp"), limits=Limits(pixels=100)).failure_code is FailureCode.LIMIT_EXCEEDED
