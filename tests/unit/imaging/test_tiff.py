"""TIFF: every way to lay pixels out that is decoded, and a word about why for the others."""

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from common.formats import Limits
from common.images import FailureCode
from tests.pictures import photo, stored, tiff_file
from tests.profiles import lab_in_srgb
from tests.rendering import QUARTERS, corners, image, is_near, refusal

ALPHAS = (51, 102, 204, 255)
# Tags of TIFF 6.0.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANES = 256, 257, 258, 259, 262, 277, 278, 284
COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, EXTRA, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING = 320, 322, 323, 338, 339, 347, 530
TILES = (324, 325)


def gray(width: int, *strips: bytes, order: str = "<", **more: tuple[int, ...]) -> bytes:
    """Of 8 bits, unless `bits` says otherwise; each strip is a row."""
    names = {
        "bits": BITS,
        "photometric": PHOTOMETRIC,
        "samples": SAMPLES,
        "extra": EXTRA,
        "kind": SAMPLE_FORMAT,
        "coded": COMPRESSION,
    }
    fields = {WIDTH: (width,), HEIGHT: (len(strips),), BITS: (8,), PHOTOMETRIC: (1,), ROWS: (1,)}
    return tiff_file(fields | {names[name]: value for name, value in more.items()}, *strips, order=order)


# As libtiff, ImageMagick and Ghostscript make them


@pytest.mark.parametrize(
    "name",
    [
        *(f"{pieces}-{compression}" for pieces in ("strips", "tiles") for compression in ("none", "lzw", "zip", "packbits")),
        *("planes", "planes-tiles", "big-endian", "jpeg-ycbcr", "jpeg-rgb", "ycbcr", "palette-8", "palette-4", "pages"),
    ],
)
def test_colours(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(f"{name}.tif"), "resize:96|format:png")

    assert (result.mode, result.size) == ("RGB", (96, 64))
    assert is_near(corners(result), QUARTERS, by=4)


@pytest.mark.parametrize(
    "name", ["black-is-zero", "g3-1d", "g3-2d", "g4", "packbits", "ghostscript-g4", "palette-1"]
)  # all but the first and the last one have zeros for white
def test_one_bit(tmp_path: Path, name: str) -> None:
    assert corners(image(tmp_path, stored(f"mono-{name}.tif"), "grayscale|format:png")) == [0, 255, 0, 255]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("gray", 0, 255), ("gray-big-endian", 0, 255), ("white-is-zero", 255, 0), ("rgb", 0, 255), ("rgba", 0, 255),
     ("unsigned-32", 0, 255)],
)  # fmt: skip
def test_deep_samples_are_scaled_not_clipped(tmp_path: Path, name: str, first: int, last: int) -> None:
    shades = image(tmp_path, stored(f"ramp16-{name}.tif"), "grayscale|format:png").getchannel("L")

    assert len(set(shades.tobytes())) >= 250
    assert shades.getextrema() == (0, 255)
    assert list(shades.tobytes()[:1024]) == pytest.approx([first + column * (last - first) / 1023 for column in range(1024)], abs=1)


@pytest.mark.parametrize(
    ("name", "levels", "by"), [("float-32", range(256), 1), ("white-is-zero", range(255, -1, -1), 0), ("4", range(256), 17)]
)
def test_gray_of_few_or_many_bits(tmp_path: Path, name: str, levels: range, by: float) -> None:
    result = image(tmp_path, stored(f"ramp8-{name}.tif"), "grayscale|format:png")

    assert list(result.tobytes()[:256]) == pytest.approx(list(levels), abs=by)


@pytest.mark.parametrize("name", ["alpha", "alpha-16", "alpha-planes", "alpha-premultiplied", "alpha-premultiplied-planes"])
def test_alpha_whether_multiplied_into_the_colours_or_not(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(f"{name}.tif"), "resize:96|format:png")

    assert is_near(corners(result), [(*colour, alpha) for colour, alpha in zip(QUARTERS, ALPHAS, strict=True)], by=3)


@pytest.mark.parametrize("name", ["gray-alpha", "gray-alpha-premultiplied", "gray-alpha-16"])
def test_gray_with_alpha(tmp_path: Path, name: str) -> None:
    result = image(tmp_path, stored(f"{name}.tif"), "resize:96|format:png")

    # ImageMagick weighs colours by BT.709 for gray
    assert is_near(corners(result), list(zip((54, 182, 18, 255), ALPHAS, strict=True)), by=3)


def test_of_several_pages_the_first(tmp_path: Path) -> None:
    content = stored("pages.tif")
    assert getattr(Image.open(io.BytesIO(content)), "n_frames", 1) == 2

    assert image(tmp_path, content, "flip").size == (48, 32)


# Put together by hand


@pytest.mark.parametrize("order", "<>")
def test_sixteen_bits_in_planes(tmp_path: Path, order: str) -> None:
    # given one row of three pixels: red, green, blue
    planes = [struct.pack(f"{order}3H", *(65535 * (place == plane) for place in range(3))) for plane in range(3)]
    fields = {WIDTH: (3,), HEIGHT: (1,), BITS: (16, 16, 16), PHOTOMETRIC: (2,), SAMPLES: (3,), ROWS: (1,), PLANES: (2,)}

    result = image(tmp_path, tiff_file(fields, *planes, order=order), "flip|format:png")

    assert [result.getpixel((x, 0)) for x in range(3)] == list(QUARTERS[:3])


def test_a_palette_of_eight_bits_by_mistake(tmp_path: Path) -> None:
    levels = (0,) * 255 + (200,) + (0,) * 255 + (100,) + (0,) * 255 + (50,)
    fields = {WIDTH: (2,), HEIGHT: (1,), PHOTOMETRIC: (3,), BITS: (8,), COLOUR_MAP: levels}

    assert image(tmp_path, tiff_file(fields, b"\xff\0"), "flip|format:png").getpixel((0, 0)) == (200, 100, 50)


@pytest.mark.parametrize(("kind", "mode", "pixel"), [(0, "L", 90), (2, "LA", (90, 60)), (1, "LA", (255, 60))])
def test_what_the_sample_behind_gray_means(tmp_path: Path, kind: int, mode: str, pixel: object) -> None:
    content = gray(1, b"\x5a\x3c", bits=(8, 8), samples=(2,), extra=(kind,))

    result = image(tmp_path, content, "flip|format:png")

    assert (result.mode, result.getpixel((0, 0))) == (mode, pixel)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("kind", "pixel"), [(0, (120,)), (2, (120, 200)), (1, (153, 200))])
def test_gray_of_sixteen_bits_with_alpha(tmp_path: Path, order: str, kind: int, pixel: tuple[int, ...]) -> None:
    row = struct.pack(f"{order}HH", 120 * 257, 200 * 257)
    content = gray(1, row, bits=(16, 16), samples=(2,), extra=(kind,), order=order)

    result = image(tmp_path, content, "format:png")

    assert tuple(result.tobytes()) == pixel


@pytest.mark.parametrize(("extra", "mode"), [((), "RGBA"), ((0,), "RGB"), ((2,), "RGBA"), ((999,), "RGBA")])
def test_what_the_fourth_sample_means(tmp_path: Path, extra: tuple[int, ...], mode: str) -> None:
    fields = {WIDTH: (1,), HEIGHT: (1,), BITS: (8,) * 4, PHOTOMETRIC: (2,), SAMPLES: (4,)} | ({EXTRA: extra} if extra else {})

    result = image(tmp_path, tiff_file(fields, bytes((200, 100, 50, 128))), "flip|format:png")

    assert (result.mode, result.getpixel((0, 0))) == (mode, (200, 100, 50, 128)[: len(mode)])


def test_cielab(tmp_path: Path) -> None:
    # given white, black, and a red of a medium lightness
    fields = {WIDTH: (3,), HEIGHT: (1,), BITS: (8,) * 3, PHOTOMETRIC: (8,), SAMPLES: (3,)}
    content = tiff_file(fields, bytes((255, 0, 0, 0, 0, 0, 128, 60, 0)))

    result = image(tmp_path, content, "flip|format:png")

    assert is_near([result.getpixel((x, 0)) for x in range(3)], [(255, 255, 255), (0, 0, 0), lab_in_srgb(128 / 2.55, 60, 0)], by=3)


def test_a_tile_larger_than_the_picture(tmp_path: Path) -> None:
    fields = {WIDTH: (3,), HEIGHT: (2,), BITS: (8,), PHOTOMETRIC: (1,), TILE_WIDTH: (16,), TILE_HEIGHT: (16,)}

    result = image(tmp_path, tiff_file(fields, bytes(range(256)), places=TILES), "flip|format:png")

    assert result.tobytes() == bytes((16, 17, 18, 0, 1, 2))


def test_strips_of_one_row_in_any_order_of_bytes(tmp_path: Path) -> None:
    for order in "<>":
        result = image(tmp_path, gray(2, b"\1\2", b"\3\4", b"\5\6", order=order), "grayscale|format:png")
        assert result.tobytes() == bytes(range(1, 7))


# Refused


@pytest.mark.parametrize(
    "content",
    [
        gray(1, bytes(4), bits=(32,), kind=(2,)),
        gray(1, bytes(2), bits=(16,), kind=(2,)),
        gray(1, bytes(8), bits=(64,), kind=(3,)),
        gray(1, struct.pack("<f", 1.5), bits=(32,), kind=(3,)),
        gray(1, struct.pack("<f", float("nan")), bits=(32,), kind=(3,)),
        gray(1, bytes(12), bits=(16, 16, 16), samples=(3,), extra=(2, 0)),
        gray(1, bytes(2), bits=(12,)),
        gray(1, bytes(2), bits=(8, 4), samples=(2,), extra=(2,)),
        gray(1, bytes(9), coded=(6,)),
        gray(1, bytes(9), coded=(34712,)),
        gray(1, bytes(9), photometric=(32803,)),
        gray(1, bytes(9), samples=(9,), bits=(8,) * 9),
        gray(1, bytes(9), samples=(3,), bits=(8,) * 3, photometric=(6,), coded=(5,)),
    ],
    ids=["int-32", "int-16", "double", "beyond-white", "nan", "deep-extra", "12-bits", "uneven", "old-jpeg", "jpeg-2000", "bayer",
         "9-samples", "ycbcr-lzw"],
)  # fmt: skip
def test_what_is_not_decoded_is_refused_with_a_word_about_why(tmp_path: Path, content: bytes) -> None:
    refused = refusal(tmp_path, content)

    assert refused.failure_code is FailureCode.CORRUPT_IMAGE
    assert "not supported" in refused.detail


COMPRESSED = ["strips-lzw", "strips-zip", "strips-packbits", "tiles-lzw", "tiles-zip", "planes", "jpeg-ycbcr", "jpeg-rgb",
              "mono-g4", "mono-g3-1d", "mono-packbits", "alpha-16", "cmyk-jpeg", "ramp16-rgb"]  # fmt: skip


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_strip_or_tile_that_is_cut_is_refused_although_the_file_is_whole(tmp_path: Path, name: str) -> None:
    # given a file whose first strip or tile says that it is shorter, with zeros in place of the rest
    content = stored(f"{name}.tif")
    tags = Image.open(io.BytesIO(content)).tag_v2  # type: ignore[attr-defined] # of TIFFs
    offsets, lengths = (tags[TILES[0]], tags[TILES[1]]) if TILES[0] in tags else (tags[273], tags[279])
    for eighth in range(1, 8):
        length = lengths[0] * eighth // 8
        cut = content[: offsets[0] + length] + bytes(lengths[0] - length) + content[offsets[0] + lengths[0] :]
        cut = _with_first_number(cut, 325 if TILES[0] in tags else 279, length)

        # then
        assert refusal(tmp_path, cut, "grayscale").failure_code is FailureCode.CORRUPT_IMAGE


def _with_first_number(content: bytes, tag: int, number: int) -> bytes:
    """The file with another first value of one field."""
    order = "<" if content.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", content, 4)
    (entries,) = struct.unpack_from(f"{order}H", content, directory)
    changed = bytearray(content)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        found, kind, count = struct.unpack_from(f"{order}HHI", content, place)
        letter, size = {3: ("H", 2), 4: ("I", 4)}.get(kind, ("", 0))
        if found == tag:
            value_at = place + 8 if size * count <= 4 else struct.unpack_from(f"{order}I", content, place + 8)[0]
            struct.pack_into(f"{order}{letter}", changed, value_at, number)
    return bytes(changed)


@pytest.mark.parametrize("strips", [(b"\1\2", b"\3"), (b"\1\2", b""), (b"\1",)])
def test_a_plain_strip_that_is_too_short_is_refused(tmp_path: Path, strips: tuple[bytes, ...]) -> None:
    fields = {WIDTH: (2,), HEIGHT: (2,), BITS: (8,), PHOTOMETRIC: (1,), ROWS: (1,)}
    assert refusal(tmp_path, tiff_file(fields, *strips)).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("tag", [WIDTH, HEIGHT, 273, 279])
def test_a_missing_field_is_refused(tmp_path: Path, tag: int) -> None:
    content = gray(2, b"\1\2", b"\3\4").replace(struct.pack("<HH", tag, 4), struct.pack("<HH", 65_000, 4))
    assert refusal(tmp_path, content).failure_code is FailureCode.CORRUPT_IMAGE


def test_a_cut_second_page_is_missed(tmp_path: Path) -> None:
    content = stored("pages.tif")
    assert refusal(tmp_path, content[:-8]).failure_code is FailureCode.CORRUPT_IMAGE


def test_pages_that_follow_each_other_in_a_circle_end(tmp_path: Path) -> None:
    content = bytearray(gray(2, b"\1\2"))
    (directory,) = struct.unpack_from("<I", content, 4)
    struct.pack_into("<I", content, directory + 2 + 12 * content[directory], directory)

    assert image(tmp_path, bytes(content), "grayscale").size == (2, 1)


# Bombs


def test_a_tag_bomb_costs_little_memory(tmp_path: Path) -> None:
    """65,000 fields of which each claims the whole file."""
    content = bytearray(gray(2, b"\1\2"))
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    honest = bytes(content[directory + 2 : directory + 2 + 12 * count])
    bombs = b"".join(struct.pack("<HHII", 400 + number, 7, 700_000, 8) for number in range(65_000))
    content[directory:] = struct.pack("<H", count + 65_000) + honest + bombs + bytes(4)

    tracemalloc.start()
    try:
        assert image(tmp_path, bytes(content), "grayscale").size == (2, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 64 << 20


@pytest.mark.parametrize(
    ("fields", "places"),
    [
        ({WIDTH: (100_000,), HEIGHT: (100_000,)}, (273, 279)),
        ({WIDTH: (10,), HEIGHT: (10,), TILE_WIDTH: (65_536,), TILE_HEIGHT: (65_536,)}, TILES),
        ({WIDTH: (1,), HEIGHT: (50_000,), TILE_WIDTH: (65_536,), TILE_HEIGHT: (16,)}, TILES),
    ],
    ids=["pixels", "tile", "tiles"],
)
def test_more_pixels_than_are_allowed_are_refused(
    tmp_path: Path, fields: dict[int, tuple[int, ...]], places: tuple[int, int]
) -> None:
    content = tiff_file({BITS: (8,), PHOTOMETRIC: (1,), COMPRESSION: (5,)} | fields, bytes(9), places=places)

    assert refusal(tmp_path, content, "grayscale").failure_code is FailureCode.LIMIT_EXCEEDED


def test_limits_are_looked_at_first(tmp_path: Path) -> None:
    refused = refusal(tmp_path, stored("strips-lzw.tif"), limits=Limits(pixels=1000))
    assert refused.failure_code is FailureCode.LIMIT_EXCEEDED


def test_a_photo_in_jpeg_strips_is_as_pillow_reads_it(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    photo(203, 151).save(buffer, "TIFF", compression="jpeg", quality=90)

    result = image(tmp_path, buffer.getvalue(), "flip|flip|format:png")

    assert ImageChops.difference(result, Image.open(buffer)).getbbox() is None
