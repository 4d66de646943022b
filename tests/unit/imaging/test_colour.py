"""Profiles are converted to sRGB before anything looks at colour; CMYK comes out as it would on paper."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pictures import chunk, jpeg, jpeg_segment, linear_profile, png, raw_png, stored, swapped_profile, with_segments
from tests.profiles import (
    ADOBE_GAMMA,
    ADOBE_RGB,
    CYAN_INK,
    DISPLAY_P3,
    cmyk_profile,
    in_srgb,
    lab_in_srgb,
    matrix_profile,
    srgb_decoded,
)
from tests.rendering import BLUE, GREEN, QUARTERS, RED, WHITE, corners, image, is_near, quarters

COLOURS = [(200, 100, 50), (60, 180, 90), (10, 20, 200), (128, 128, 128), (250, 40, 40), (0, 0, 0), (255, 255, 255)]


def _tiff(picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def _bmp(picture: Image.Image, icc_profile: bytes) -> bytes:
    """With BITMAPV5HEADER, which can hold a profile behind the pixels."""
    pixels = picture.tobytes("raw", "BGRX", 0, -1)
    header = struct.pack("<IiiHHIIiiII", 124, *picture.size, 1, 32, 0, len(pixels), 0, 0, 0, 0).ljust(56, b"\0") + b"DEBM"
    header = header.ljust(108, b"\0") + struct.pack("<IIII", 4, 124 + len(pixels), len(icc_profile), 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 124) + header + pixels + icc_profile


@pytest.mark.parametrize("encode", [jpeg, png, _tiff, _bmp])
@pytest.mark.parametrize(
    ("profile", "primaries", "decoded"),
    [
        (matrix_profile(DISPLAY_P3), DISPLAY_P3, srgb_decoded),
        (matrix_profile(ADOBE_RGB, ADOBE_GAMMA), ADOBE_RGB, lambda level: level**ADOBE_GAMMA),
    ],
    ids=["display-p3", "adobe-rgb"],
)
def test_wide_colours_come_out_as_the_published_numbers_say(
    tmp_path: Path, encode: Callable[..., bytes], profile: bytes, primaries: Any, decoded: Callable[[float], float]
) -> None:
    for colour in COLOURS:
        content = encode(Image.new("RGB", (32, 32), colour), icc_profile=profile)

        result = image(tmp_path, content, "flip|format:png")

        assert is_near(result.getpixel((16, 16)), in_srgb(colour, primaries, decoded), by=4), colour
        assert "icc_profile" not in result.info


def test_a_profile_is_converted_to_srgb_before_anything_looks_at_colour(tmp_path: Path) -> None:
    for encode in (jpeg, png):
        content = encode(quarters(1200, 800), icc_profile=swapped_profile())

        colour, gray = image(tmp_path, content, "resize:300"), image(tmp_path, content, "resize:300|grayscale")

        assert is_near(corners(colour), (GREEN, RED, BLUE, WHITE))
        assert is_near(corners(gray), (150, 76, 29, 255))


def test_a_profile_leaves_alpha_as_it_is(tmp_path: Path) -> None:
    see_through = Image.new("RGBA", (60, 40), (255, 0, 0, 100))
    assert image(tmp_path, png(see_through, icc_profile=swapped_profile()), "resize:30").getpixel((15, 10)) == (0, 255, 0, 100)


@pytest.mark.parametrize("space", [b"RGB ", b"GRAY"])
def test_gray_with_a_profile_stays_gray_and_takes_its_levels_from_it(tmp_path: Path, space: bytes) -> None:
    for encode in (jpeg, png):
        gray = image(tmp_path, encode(Image.new("L", (60, 40), 90), icc_profile=linear_profile(space)), "resize:30")

        # 90/255 of the light is level 160 in sRGB: 255 · (1.055 · (90/255)^(1/2.4) − 0.055), IEC 61966-2-1
        assert gray.mode == "L"
        assert is_near([gray.getpixel((15, 10))], [160], by=2)


@pytest.mark.parametrize(
    "profile", [linear_profile(b"GRAY"), linear_profile(b"CMYK"), linear_profile(b"Lab ")], ids=["gray", "cmyk", "lab"]
)
def test_a_profile_for_another_kind_of_colour_is_ignored(tmp_path: Path, profile: bytes) -> None:
    result = image(tmp_path, png(quarters(60, 40), icc_profile=profile), "resize:60")

    assert corners(result) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    "profile", [b"", b"not a profile", swapped_profile()[:300], bytes(3000)], ids=["empty", "text", "cut", "zeros"]
)
def test_a_broken_profile_is_ignored(tmp_path: Path, profile: bytes) -> None:
    segment = jpeg_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + profile)
    for content in (
        with_segments(jpeg(quarters(1200, 800)), segment),
        png(quarters(1200, 800), icc_profile=profile or b"\0"),
    ):
        result = image(tmp_path, content, "resize:300")
        assert is_near(corners(result), QUARTERS)


def test_a_profile_in_pieces_that_come_in_any_order(tmp_path: Path) -> None:
    profile = swapped_profile()
    pieces = [
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes((part + 1, 3)) + profile[part * 200 : part * 200 + 200]) for part in range(2)
    ]
    pieces.append(jpeg_segment(0xE2, b"ICC_PROFILE\0\3\3" + profile[400:]))

    for order in ((0, 1, 2), (2, 0, 1)):
        result = image(tmp_path, with_segments(jpeg(quarters(96, 64)), *(pieces[part] for part in order)), "flip|flip")
        assert is_near(corners(result), (GREEN, RED, BLUE, WHITE))

    result = image(tmp_path, with_segments(jpeg(quarters(96, 64)), pieces[0], pieces[2]), "flip|flip")
    assert is_near(corners(result), QUARTERS)


def test_a_palette_has_a_profile(tmp_path: Path) -> None:
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(swapped_profile()))
    palette = chunk(b"PLTE", bytes((255, 0, 0, 0, 255, 0))) + chunk(b"tRNS", b"\x80")
    result = image(tmp_path, raw_png(2, 1, 8, 3, b"\0\0\1", before=profile + palette), "flip")

    assert is_near([result.getpixel((x, 0)) for x in (0, 1)], [(0, 255, 0, 128), (255, 0, 0, 255)])


# CMYK


@pytest.mark.parametrize("name", ["cmyk-imagemagick.jpg", "cmyk-ghostscript.jpg", "cmyk.tif", "cmyk-16.tif", "cmyk-jpeg.tif"])
def test_cmyk_of_other_programs(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(name), "resize:96|format:png")

    assert result.mode == "RGB"
    assert is_near(corners(result), QUARTERS, by=6)
    assert is_near(corners(image(tmp_path, stored(name), "grayscale")), (76, 150, 29, 255), by=4)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    # given a CMYK JPEG with Adobe's inversion, as Photoshop writes them
    result = image(tmp_path, jpeg(quarters(1200, 800).convert("CMYK")), "resize:300")

    assert result.mode == "RGB"
    assert is_near(corners(result), QUARTERS, by=12)
    assert is_near(corners(image(tmp_path, jpeg(quarters(1200, 800).convert("CMYK")))), (76, 150, 29, 255), by=8)


def _ycck(picture: Image.Image, **options: Any) -> bytes:
    """A CMYK picture as Photoshop stores it: inverted, and cyan, magenta and yellow as lightness and two colours. Pillow makes CMYK
    of the same samples; Adobe's segment says which of the two they are."""
    cyan, magenta, yellow, black = picture.split()
    lightness, blue, red = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    as_stored = [channel.point(lambda level: 255 - level) for channel in (lightness, blue, red)]
    content = jpeg(Image.merge("CMYK", (*as_stored, black)), quality=95, **options)
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    return content[:transform] + b"\2" + content[transform + 1 :]


@pytest.mark.parametrize("encode", [jpeg, _ycck, _tiff])
def test_inks_without_a_profile(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    """White paper stays white."""
    inks = {(0, 0, 0, 0): WHITE, (255, 0, 0, 0): (0, 255, 255), (0, 255, 0, 0): (255, 0, 255), (0, 0, 255, 0): (255, 255, 0),
            (0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 128): (127, 127, 127), (255, 255, 0, 0): BLUE}  # fmt: skip
    for ink, colour in inks.items():
        result = image(tmp_path, encode(Image.new("CMYK", (32, 32), ink)), "flip|format:png")
        assert is_near(result.getpixel((16, 16)), colour, by=4), ink


@pytest.mark.parametrize("encode", [jpeg, _ycck, _tiff])
def test_inks_with_a_profile(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    inks = {(0, 0, 0, 0): WHITE, (255, 0, 0, 0): lab_in_srgb(*CYAN_INK), (0, 0, 0, 255): (0, 0, 0)}
    for ink, colour in inks.items():
        result = image(tmp_path, encode(Image.new("CMYK", (32, 32), ink), icc_profile=cmyk_profile()), "flip|format:png")
        assert is_near(result.getpixel((16, 16)), colour, by=14), ink
        assert "icc_profile" not in result.info


def test_cmyk_that_says_nothing_about_adobe_is_inverted_all_the_same(tmp_path: Path) -> None:
    """As every other program takes it."""
    content = jpeg(quarters(96, 64).convert("CMYK"))
    segment = content.index(b"\xff\xee")
    length = int.from_bytes(content[segment + 2 : segment + 4], "big")

    result = image(tmp_path, content[:segment] + content[segment + 2 + length :], "flip|flip|format:png")

    assert is_near(corners(result), QUARTERS, by=12)
