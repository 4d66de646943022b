"""PNG of every depth, colour type and kind of transparency; damage that is found, and damage that harms nobody."""

import io
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from common.images import FailureCode
from common.processing import parse
from tests.pictures import PNG_SIGNATURE, chunk, photo, photo_png, png, raw_png, stored
from tests.rendering import LIMITS, QUARTERS, corners, image, is_near, quarters, refusal
from worker.decoding import decode

# First column and row of each pass of an interlaced PNG, and steps.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
ALPHAS = (51, 102, 204, 255)


@pytest.mark.parametrize("name", ["ramp16-gray", "ramp16-rgb", "ramp16-la", "ramp16-rgba"])
def test_sixteen_bits_of_another_program_are_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    shades = image(tmp_path, stored(f"{name}.png"), "grayscale").getchannel("L")

    assert len(set(shades.tobytes())) >= 250
    assert shades.getextrema() == (0, 255)
    assert shades.tobytes()[512] == pytest.approx(128, abs=1)


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, colour_type: int, samples: int) -> None:
    # given a full ramp, opaque
    levels = [column * 65535 // 799 for column in range(800)]
    opaque = [65535] if colour_type in (4, 6) else []
    row = b"\0" + b"".join(struct.pack(f">{samples}H", *[level] * (samples - len(opaque)), *opaque) for level in levels)

    # when
    result = image(tmp_path, raw_png(800, 4, 16, colour_type, row * 4), "grayscale")

    # then
    shades = result.getchannel("L")
    assert len(set(shades.tobytes())) >= 250
    assert shades.getextrema() == (0, 255)
    assert abs(int(shades.tobytes()[400]) - 127) <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_interlaced_gray_of_every_depth(tmp_path: Path, depth: int) -> None:
    # given
    content = stored(f"ramp8-interlaced-{depth}.png")
    assert (content[24], content[28]) == (depth, 1)

    # when
    levels = image(tmp_path, content, "grayscale").tobytes()[:256]

    # then
    step = 255 / (2 ** min(depth, 8) - 1)
    assert list(levels) == pytest.approx(list(range(256)), abs=step)
    assert all(abs(round(level / step) * step - level) < 1 for level in levels)


@pytest.mark.parametrize("name", ["interlaced-rgb", "interlaced-netpbm", "interlaced-palette-2"])
def test_interlaced_colours(tmp_path: Path, name: str) -> None:
    assert stored(f"{name}.png")[28] == 1
    assert corners(image(tmp_path, stored(f"{name}.png"), "resize:96")) == list(QUARTERS)


@pytest.mark.parametrize("name", ["alpha", "alpha-interlaced-16"])
def test_alpha_is_kept(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(f"{name}.png"), "resize:96")

    assert is_near(corners(result), [(*colour, alpha) for colour, alpha in zip(QUARTERS, ALPHAS, strict=True)], by=2)


def test_an_interlaced_png(tmp_path: Path) -> None:
    # given a picture of Adam7's seven passes, made by hand
    picture = photo(37, 29)
    rows = b""
    for x, y, dx, dy in ADAM7:
        for row in range(y, 29, dy):
            rows += b"\0" + b"".join(bytes(picture.getpixel((column, row))) for column in range(x, 37, dx))  # type: ignore[arg-type] # RGB

    result = image(tmp_path, raw_png(37, 29, 8, 2, rows, interlace=1), "resize:37")

    assert ImageChops.difference(result, picture).getbbox() is None


def test_one_bit(tmp_path: Path) -> None:
    result = image(tmp_path, png(quarters(100, 60).convert("L").point([0] * 100 + [255] * 156).convert("1")), "resize:50")

    assert (result.mode, corners(result)) == ("L", [0, 255, 0, 255])


def test_one_bit_of_another_program(tmp_path: Path) -> None:
    assert corners(image(tmp_path, stored("mono.png"), "resize:96")) == [0, 255, 0, 255]


@pytest.mark.parametrize(
    ("depth", "colour_type", "row", "key", "opaque"),
    [
        (1, 0, bytes([0b01000000]), struct.pack(">H", 1), [255, 0]),
        (2, 0, bytes([0b01100000]), struct.pack(">H", 2), [255, 0]),
        (4, 0, bytes([0x12]), struct.pack(">H", 2), [255, 0]),
        (8, 0, bytes([1, 2]), struct.pack(">H", 2), [255, 0]),
        (16, 0, bytes([2, 1, 2, 2]), struct.pack(">H", 0x0202), [255, 0]),
        (8, 2, bytes([1, 2, 3, 4, 5, 6]), struct.pack(">HHH", 4, 5, 6), [255, 0]),
        (16, 2, struct.pack(">6H", 0x1FF, 2, 3, 0x4FF, 5, 6), struct.pack(">HHH", 0x4FF, 5, 6), [255, 0]),
        (8, 3, bytes([0, 1]), bytes([200, 100]), [200, 100]),
        (8, 3, bytes([0, 1]), bytes([255, 0]), [255, 0]),
    ],
)
def test_transparent_colours_and_palettes(
    tmp_path: Path, depth: int, colour_type: int, row: bytes, key: bytes, opaque: list[int]
) -> None:
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])) if colour_type == 3 else b""

    result = image(tmp_path, raw_png(2, 1, depth, colour_type, b"\0" + row, before=palette + chunk(b"tRNS", key)), "grayscale")

    assert (result.mode, list(result.getchannel("A").tobytes())) == ("LA", opaque)
    if colour_type == 3:
        assert list(result.getchannel("L").tobytes()) == [76, 150 if opaque[1] else 0]


@pytest.mark.parametrize(
    ("key", "opaque"), [(b"", None), (b"\x40", [64, 255, 255]), (b"\xff\x00\x80", [255, 0, 128]), (b"\1\2\3\4", [1, 2, 3])]
)
def test_palettes_whose_transparency_is_shorter_or_longer(tmp_path: Path, key: bytes, opaque: list[int] | None) -> None:
    """What is not said is opaque."""
    before = chunk(b"PLTE", bytes(range(9))) + (chunk(b"tRNS", key) if key else b"")

    result = image(tmp_path, raw_png(3, 1, 8, 3, b"\0\0\1\2", before=before), "flip")

    assert result.mode == ("RGBA" if opaque else "RGB")
    if opaque:
        assert list(result.getchannel("A").tobytes()) == opaque


def test_colours_that_a_palette_lacks_are_black(tmp_path: Path) -> None:
    content = raw_png(2, 1, 8, 3, b"\0\1\xc8", before=chunk(b"PLTE", bytes((9, 9, 9, 250, 0, 0))))

    result = image(tmp_path, content, "flip")

    assert [result.getpixel((x, 0)) for x in (0, 1)] == [(250, 0, 0), (0, 0, 0)]


def test_a_text_named_like_a_transparent_colour_is_no_such_thing(tmp_path: Path) -> None:
    text = chunk(b"tEXt", b"transparency\0nothing")

    assert image(tmp_path, raw_png(2, 1, 8, 0, b"\0\x01\x02", before=text), "grayscale").mode == "L"


@pytest.mark.parametrize("steps", ["resize:50", "resize:50|grayscale"])
def test_alpha_survives_without_a_dark_halo(tmp_path: Path, steps: str) -> None:
    # given white on transparent black
    picture = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (100, 100, 300, 300))

    # when
    result = image(tmp_path, png(picture), steps)

    # then soft edges exist and are as white as the middle
    pixels = list(zip(result.getchannel(0).tobytes(), result.getchannel("A").tobytes(), strict=True))
    assert any(0 < alpha < 255 for _, alpha in pixels)
    assert min(level for level, alpha in pixels if alpha > 8) >= 250
    assert {result.getpixel((25, 25)), result.getpixel((2, 2))} <= {
        (255,) * len(result.mode[:-1]) + (255,),
        (0,) * len(result.mode),
    }


@pytest.mark.parametrize("steps", ["resize:50", "resize:50|format:jpeg", "blur:4", "format:jpeg", "resize:30x50:fill|format:bmp"])
def test_hidden_colour_never_shows(tmp_path: Path, steps: str) -> None:
    # given white in the middle of red that nobody is to see
    picture = Image.new("RGBA", (100, 100), (255, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (30, 30, 70, 70))

    result = image(tmp_path, png(picture), f"{steps}")

    shown = Image.alpha_composite(Image.new("RGBA", result.size, "white"), result.convert("RGBA"))
    assert min(min(shown.getchannel(channel).tobytes()) for channel in "RGB") >= 250


# Metadata harm nobody


@pytest.mark.parametrize(
    "kind", [b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"bKGD", b"sBIT", b"prVt"]
)
@pytest.mark.parametrize("contents", [b"", b"\0", b"broken\0\0\xff\xff", b"\xff" * 40], ids=["empty", "zero", "broken", "nonsense"])
def test_damaged_metadata_are_passed_over(tmp_path: Path, kind: bytes, contents: bytes) -> None:
    good = chunk(kind, contents)
    for damaged in (good, good[:-1] + bytes((good[-1] ^ 1,))):
        for before, after in ((damaged, b""), (b"", damaged)):
            content = raw_png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", before, after)
            assert image(tmp_path, content, "flip").getpixel((1, 0)) == (4, 5, 6)


def test_bombs_in_metadata_are_not_inflated(tmp_path: Path) -> None:
    # given 64 MB of text, and a profile as large, in 64 kB each
    packed = zlib.compress(bytes(64 << 20))
    bombs = [b"zTXt" + b"a\0\0" + packed, b"iTXt" + b"XML:com.adobe.xmp\0\1\0\0\0" + packed, b"iCCP" + b"a\0\0" + packed]
    many = b"".join(chunk(bomb[:4], bomb[4:]) for bomb in bombs) * 3 + chunk(b"tEXt", b"a\0" + bytes(2 << 20))
    content = raw_png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", before=many, after=many)

    # when
    tracemalloc.start()
    try:
        result = image(tmp_path, content, "flip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # then
    assert result.getpixel((1, 0)) == (4, 5, 6)
    assert peak < 4 * len(content) + (8 << 20)


# Never half a picture


@pytest.mark.parametrize(
    "palette", [b"", chunk(b"PLTE"), chunk(b"PLTE", bytes(7)), chunk(b"PLTE", bytes(3 * 257)), chunk(b"PLTE", bytes(6)) * 2]
)
def test_a_broken_or_missing_palette_is_refused(tmp_path: Path, palette: bytes) -> None:
    assert refusal(tmp_path, raw_png(2, 1, 8, 3, b"\0\0\0", before=palette)).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize(("colour_type", "key"), [(0, b"\0"), (2, bytes(5))])
def test_a_cut_transparent_colour_is_refused(tmp_path: Path, colour_type: int, key: bytes) -> None:
    content = raw_png(2, 1, 8, colour_type, bytes(7), before=chunk(b"tRNS", key))
    assert refusal(tmp_path, content).failure_code is FailureCode.CORRUPT_IMAGE


def test_an_unknown_chunk_that_must_be_understood_is_refused(tmp_path: Path) -> None:
    unknown = chunk(b"CgBI", bytes(4))
    for before, after in ((unknown, b""), (b"", unknown)):
        content = raw_png(2, 1, 8, 0, b"\0\1\2", before, after)
        assert refusal(tmp_path, content).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize(("place", "value"), [(24, 3), (25, 5), (26, 1), (27, 1), (28, 2)])
def test_a_coding_that_does_not_exist_is_refused(tmp_path: Path, place: int, value: int) -> None:
    content = bytearray(photo_png(8, 8))
    content[place] = value
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    assert refusal(tmp_path, bytes(content)).failure_code is FailureCode.CORRUPT_IMAGE


def test_two_headers_are_refused(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\1\2"))
    content = PNG_SIGNATURE + header + header + pixels + chunk(b"IEND")
    assert refusal(tmp_path, content).failure_code is FailureCode.CORRUPT_IMAGE


def test_pixels_in_many_pieces(tmp_path: Path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 40, 8, 2, 0, 0, 0))
    rows = quarters(60, 40).tobytes()
    packed = zlib.compress(b"".join(b"\0" + rows[start : start + 180] for start in range(0, len(rows), 180)))
    pieces = b"".join(chunk(b"IDAT", packed[place : place + 1]) + chunk(b"IDAT") for place in range(len(packed)))

    result = image(tmp_path, PNG_SIGNATURE + header + pieces + chunk(b"IEND"), "flip|flip")

    assert corners(result) == list(QUARTERS)


@pytest.mark.parametrize("size", [(32, 32), (32, 33), (5, 1), (1, 5), (9, 2)])
def test_an_interlaced_png_whose_pixels_end_early_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    # given the bytes of all passes: a filter byte and the columns, for each row
    width, height = size
    rows = [b"\x01" * (1 + len(range(x, width, dx))) for x, y, dx, dy in ADAM7 if x < width for _ in range(y, height, dy)]
    assert image(tmp_path, raw_png(width, height, 8, 0, b"".join(rows), interlace=1), "grayscale").size == size

    # when the last row is missing, which Pillow does not notice
    refused = refusal(tmp_path, raw_png(width, height, 8, 0, b"".join(rows[:-1]), interlace=1), "grayscale")

    # then
    assert refused.failure_code is FailureCode.CORRUPT_IMAGE


@given(st.sampled_from([("L", 0), ("RGB", 2), ("RGBA", 6)]), st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_the_common_kinds_come_to_the_pixels_that_pillow_finds(kind: tuple[str, int], width: int, height: int, seed: int) -> None:
    # given rows of any bytes, each with any filter
    (mode, colour_type), chance = kind, random.Random(seed)
    rows = b"".join(bytes([chance.randrange(5)]) + chance.randbytes(width * len(mode)) for _ in range(height))
    content = raw_png(width, height, 8, colour_type, rows)

    # when
    decoded = decode(content, parse("flip"), LIMITS)

    # then
    found = next(decoded.frames).image
    expected = Image.open(io.BytesIO(content))
    assert (found.mode, found.size) == (mode, expected.size)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_what_follows_the_last_row_is_passed_over(tmp_path: Path, mode: str) -> None:
    rows = b"".join(b"\0" + bytes([100]) * 30 * len(mode) for _ in range(11))
    content = raw_png(30, 10, 8, {"L": 0, "RGB": 2, "RGBA": 6}[mode], rows)
    assert image(tmp_path, content, "flip").size == (30, 10)


def test_pixels_that_end_early_are_refused_although_every_checksum_is_right(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes([100]) * 300 for _ in range(100))
    for share in (0.3, 0.9, 0.99):
        short = raw_png(100, 100, 8, 2, rows[: int(len(rows) * share)])
        assert refusal(tmp_path, short).failure_code is FailureCode.CORRUPT_IMAGE


def test_a_black_or_transparent_end_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    for mode in ("L", "RGB", "RGBA", "LA", "1", "P"):
        assert image(tmp_path, png(Image.new(mode, (61, 41)))).size == (800, 538)


def test_a_changed_byte_in_a_png_is_refused(tmp_path: Path) -> None:
    content = photo_png(64, 48)
    for position in range(40, len(content) - 12, len(content) // 20):
        changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        assert refusal(tmp_path, changed).failure_code is FailureCode.CORRUPT_IMAGE
