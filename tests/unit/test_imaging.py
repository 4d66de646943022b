"""What is done to pixels: right pictures from every kind of JPEG and PNG, and never half of one."""

import hashlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from common import processing
from common.errors import PictureRefused
from common.formats import Limits
from common.images import FailureCode
from common.ports import Rendered
from tests.pictures import (
    chunk,
    exif_block,
    exif_bomb,
    huge_header_png,
    jpeg,
    jpeg_segment,
    linear_profile,
    photo,
    photo_jpeg,
    photo_png,
    png,
    raw_png,
    swapped_profile,
    with_exif,
    with_segments,
)
from worker.decoding import decode
from worker.imaging import render_file
from worker.steps import carried_out

LIMIT = 50_000_000
DEFAULT = "resize:800|grayscale"
# First column and row of each pass of an interlaced PNG, and steps.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _render(folder: Path, content: bytes, steps: str = DEFAULT, max_pixels: int = LIMIT) -> tuple[Rendered, bytes]:
    source, target = folder / "source", folder / "target"
    source.write_bytes(content)
    rendered = render_file(source, target, steps, Limits(pixels=max_pixels))
    return rendered, target.read_bytes()


def _image(folder: Path, content: bytes, steps: str = DEFAULT) -> Image.Image:
    image = Image.open(io.BytesIO(_render(folder, content, steps)[1]))
    image.load()
    return image


def _refusal(folder: Path, content: bytes, steps: str = DEFAULT, max_pixels: int = LIMIT) -> PictureRefused:
    with pytest.raises(PictureRefused) as refused:
        _render(folder, content, steps, max_pixels)
    assert not (folder / "target").exists()
    return refused.value


def _corners(image: Image.Image) -> list[Any]:
    """Top left, top right, bottom left, bottom right, away from the edges."""
    width, height = image.size
    return [image.getpixel((x, y)) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]


def _is_near(one: Any, other: Any, by: int = 6) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def _quarters(width: int, height: int) -> Image.Image:
    """Red, green / blue, white."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(GREEN, (width // 2, 0, width, height))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(WHITE, (width // 2, height // 2, width, height))
    return picture


# The main job


@pytest.mark.parametrize(
    ("content", "kind"), [(photo_jpeg(1601, 1067), "JPEG"), (photo_png(1601, 1067), "PNG")], ids=["jpeg", "png"]
)
def test_the_default_makes_it_800_wide_and_gray_in_its_own_format(folder: Path, content: bytes, kind: str) -> None:
    rendered, result = _render(folder, content)

    image = Image.open(io.BytesIO(result))
    assert (image.format, image.mode, image.size) == (kind, "L", (800, 533))
    assert rendered == Rendered(
        content_type=f"image/{kind.lower()}",
        size_bytes=len(result),
        sha256=hashlib.sha256(result).hexdigest(),
        width=800,
        height=533,
    )


@pytest.mark.parametrize(
    ("size", "result"),
    [
        ((800, 600), (800, 600)),
        ((801, 601), (800, 600)),
        ((400, 300), (800, 600)),
        ((1, 1), (800, 800)),
        ((20_000, 1), (800, 1)),
        ((3, 2), (800, 533)),
        ((1601, 7), (800, 3)),
    ],
)
@pytest.mark.parametrize("encode", [jpeg, png])
def test_sizes(folder: Path, encode: Any, size: tuple[int, int], result: tuple[int, int]) -> None:
    assert _image(folder, encode(Image.new("RGB", size, (200, 100, 50)))).size == result


def test_an_output_over_the_limit_is_refused_before_it_is_made(folder: Path) -> None:
    for content in (jpeg(Image.new("L", (1, 20_000))), png(Image.new("L", (1, 20_000)))):
        refused = _refusal(folder, content)
        assert refused.failure_code is FailureCode.LIMIT_EXCEEDED
        assert "resize:800" in refused.detail


@pytest.mark.parametrize("content", [huge_header_png(30_000, 30_000), photo_jpeg(101, 100), photo_png(101, 100)])
def test_an_input_over_the_limit_is_refused(folder: Path, content: bytes) -> None:
    assert _refusal(folder, content, max_pixels=10_000).failure_code is FailureCode.LIMIT_EXCEEDED


def test_gray_is_bt601_luma(folder: Path) -> None:
    for picture, encode in ((_quarters(1600, 1200), png), (_quarters(1600, 1200), jpeg)):
        gray = _corners(_image(folder, encode(picture)))
        assert _is_near(gray, (76, 150, 29, 255), by=2), (encode, gray)


@pytest.mark.parametrize("steps", ["resize:100|grayscale", "grayscale|resize:100", "resize:400|grayscale|resize:100"])
def test_the_order_of_steps_is_kept_and_makes_no_visible_difference_here(folder: Path, steps: str) -> None:
    picture = photo(900, 600)

    image = _image(folder, png(picture), steps)

    assert image.size == (100, 67)
    plain = picture.resize((100, 67), Image.Resampling.LANCZOS).convert("L")
    assert ImageStat.Stat(ImageChops.difference(image, plain)).mean[0] < 1.5


def test_colours_stay_where_gray_is_not_asked_for(folder: Path) -> None:
    for encode in (jpeg, png):
        image = _image(folder, encode(_quarters(1200, 800)), "resize:300")
        assert (image.mode, image.size) == ("RGB", (300, 200))
        assert all(_is_near(one, other) for one, other in zip(_corners(image), (RED, GREEN, BLUE, WHITE), strict=True))


def test_without_a_resize_the_size_stays(folder: Path) -> None:
    assert _image(folder, photo_jpeg(333, 222), "grayscale").size == (333, 222)


def test_the_encoding_is_plain(folder: Path) -> None:
    _, result = _render(folder, photo_jpeg(900, 600), "resize:800")

    image = Image.open(io.BytesIO(result))
    assert "progression" not in image.info
    assert image.quantization == Image.open(io.BytesIO(jpeg(photo(80, 60), quality=85))).quantization  # type: ignore[attr-defined] # of JPEGs


# Decoding at a reduced size


@pytest.mark.parametrize(
    ("size", "orientation", "options"),
    [
        ((1600, 1064), 1, {}),
        ((1605, 1067), 1, {}),
        ((1605, 1067), 3, {"subsampling": 0}),
        ((1605, 1067), 6, {"progressive": True}),
        ((1605, 1067), 7, {}),
        ((1111, 333), 8, {}),
        ((1111, 333), 1, {"keep_rgb": True}),
    ],
    ids=str,
)
def test_decoding_at_a_reduced_size_equals_the_plain_way(size: tuple[int, int], orientation: int, options: dict[str, Any]) -> None:
    """Within a mean of half a level and a PSNR of 50 dB."""
    # given
    content = with_exif(jpeg(photo(*size), **options), exif_block(orientation))
    upright = Image.open(io.BytesIO(content)).convert("RGB")
    upright = upright.transpose(_TURNS[orientation]) if orientation in _TURNS else upright
    height = int(upright.height * 100 / upright.width + 0.5)
    plain = upright.convert("L").resize((100, height), Image.Resampling.LANCZOS)

    # when
    wanted = processing.parse("resize:100|grayscale")
    decoded = decode(content, wanted, Limits())
    image = carried_out(wanted, next(decoded.frames).image, decoded.size)

    # then
    assert (image.size, decoded.size) == ((100, height), upright.size)
    difference = ImageStat.Stat(ImageChops.difference(image, plain))
    assert difference.mean[0] < 0.5
    assert difference.rms[0] < 255 / 10 ** (50 / 20)


_TURNS = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Upright


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_first(folder: Path, orientation: int, order: str) -> None:
    """The picture is stored so that the orientation turns it upright: red, green / blue, white, 1200 × 800."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = _quarters(1200, 800)
    stored = picture.transpose(undo[orientation]) if orientation in undo else picture
    exif = exif_block(orientation, order)
    rows = b"".join(b"\0" + stored.crop((0, row, stored.width, row + 1)).tobytes() for row in range(stored.height))
    in_front = raw_png(*stored.size, 8, 2, rows, before=chunk(b"eXIf", exif))
    behind = raw_png(*stored.size, 8, 2, rows, after=chunk(b"eXIf", exif))

    for content in (with_exif(jpeg(stored), exif), in_front, behind):
        image = _image(folder, content, "resize:300")
        assert image.size == (300, 200)
        assert all(_is_near(one, other) for one, other in zip(_corners(image), (RED, GREEN, BLUE, WHITE), strict=True))


@pytest.mark.parametrize(
    "exif",
    [b"", b"MM", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", exif_block(0), exif_block(9), b"\0" * 64, exif_bomb()],
    ids=["empty", "cut", "offset", "entries", "0", "9", "zeros", "bomb"],
)
def test_broken_exif_is_ignored(folder: Path, exif: bytes) -> None:
    assert _image(folder, with_exif(photo_jpeg(120, 80), exif)).size == (800, 533)


# Colours


def test_a_profile_is_converted_to_srgb_before_anything_looks_at_colour(folder: Path) -> None:
    for encode in (jpeg, png):
        content = encode(_quarters(1200, 800), icc_profile=swapped_profile())

        colour, gray = _image(folder, content, "resize:300"), _image(folder, content, "resize:300|grayscale")

        assert all(_is_near(one, other) for one, other in zip(_corners(colour), (GREEN, RED, BLUE, WHITE), strict=True))
        assert _is_near(_corners(gray), (150, 76, 29, 255))


def test_a_profile_leaves_alpha_as_it_is(folder: Path) -> None:
    see_through = Image.new("RGBA", (60, 40), (255, 0, 0, 100))
    assert _image(folder, png(see_through, icc_profile=swapped_profile()), "resize:30").getpixel((15, 10)) == (0, 255, 0, 100)


@pytest.mark.parametrize("space", [b"RGB ", b"GRAY"])
def test_gray_with_a_profile_stays_gray_and_takes_its_levels_from_it(folder: Path, space: bytes) -> None:
    for encode in (jpeg, png):
        gray = _image(folder, encode(Image.new("L", (60, 40), 90), icc_profile=linear_profile(space)), "resize:30")

        # 90/255 of the light is level 160 in sRGB: 255 · (1.055 · (90/255)^(1/2.4) − 0.055), IEC 61966-2-1
        assert gray.mode == "L"
        assert _is_near([gray.getpixel((15, 10))], [160], by=2)


@pytest.mark.parametrize(
    "profile", [linear_profile(b"GRAY"), linear_profile(b"CMYK"), linear_profile(b"Lab ")], ids=["gray", "cmyk", "lab"]
)
def test_a_profile_for_another_kind_of_colour_is_ignored(folder: Path, profile: bytes) -> None:
    image = _image(folder, png(_quarters(60, 40), icc_profile=profile), "resize:60")

    assert _corners(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    "profile", [b"", b"not a profile", swapped_profile()[:300], bytes(3000)], ids=["empty", "text", "cut", "zeros"]
)
def test_a_broken_profile_is_ignored(folder: Path, profile: bytes) -> None:
    segment = jpeg_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + profile)
    for content in (
        with_segments(jpeg(_quarters(1200, 800)), segment),
        png(_quarters(1200, 800), icc_profile=profile or b"\0"),
    ):
        image = _image(folder, content, "resize:300")
        assert all(_is_near(one, other) for one, other in zip(_corners(image), (RED, GREEN, BLUE, WHITE), strict=True))


def test_cmyk_jpeg(folder: Path) -> None:
    # given a CMYK JPEG with Adobe's inversion, as Photoshop writes them
    image = _image(folder, jpeg(_quarters(1200, 800).convert("CMYK")), "resize:300")

    assert image.mode == "RGB"
    assert all(_is_near(one, other, by=12) for one, other in zip(_corners(image), (RED, GREEN, BLUE, WHITE), strict=True))
    assert _is_near(_corners(_image(folder, jpeg(_quarters(1200, 800).convert("CMYK")))), (76, 150, 29, 255), by=8)


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_scaled_not_clipped(folder: Path, colour_type: int, samples: int) -> None:
    # given a full ramp, opaque
    levels = [column * 65535 // 799 for column in range(800)]
    opaque = [65535] if colour_type in (4, 6) else []
    row = b"\0" + b"".join(struct.pack(f">{samples}H", *[level] * (samples - len(opaque)), *opaque) for level in levels)

    # when
    image = _image(folder, raw_png(800, 4, 16, colour_type, row * 4), "grayscale")

    # then
    shades = image.getchannel("L")
    assert len(set(shades.tobytes())) >= 250
    assert shades.getextrema() == (0, 255)
    assert abs(int(shades.tobytes()[400]) - 127) <= 1


def test_one_bit(folder: Path) -> None:
    image = _image(folder, png(_quarters(100, 60).convert("L").point([0] * 100 + [255] * 156).convert("1")), "resize:50")

    assert (image.mode, _corners(image)) == ("L", [0, 255, 0, 255])


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
    folder: Path, depth: int, colour_type: int, row: bytes, key: bytes, opaque: list[int]
) -> None:
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])) if colour_type == 3 else b""

    image = _image(folder, raw_png(2, 1, depth, colour_type, b"\0" + row, before=palette + chunk(b"tRNS", key)), "grayscale")

    assert (image.mode, list(image.getchannel("A").tobytes())) == ("LA", opaque)
    if colour_type == 3:
        assert list(image.getchannel("L").tobytes()) == [76, 150 if opaque[1] else 0]


def test_a_text_named_like_a_transparent_colour_is_no_such_thing(folder: Path) -> None:
    text = chunk(b"tEXt", b"transparency\0nothing")

    assert _image(folder, raw_png(2, 1, 8, 0, b"\0\x01\x02", before=text), "grayscale").mode == "L"


@pytest.mark.parametrize("steps", ["resize:50", "resize:50|grayscale"])
def test_alpha_survives_without_a_dark_halo(folder: Path, steps: str) -> None:
    # given white on transparent black
    picture = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (100, 100, 300, 300))

    # when
    image = _image(folder, png(picture), steps)

    # then soft edges exist and are as white as the middle
    pixels = list(zip(image.getchannel(0).tobytes(), image.getchannel("A").tobytes(), strict=True))
    assert any(0 < alpha < 255 for _, alpha in pixels)
    assert min(level for level, alpha in pixels if alpha > 8) >= 250
    assert {image.getpixel((25, 25)), image.getpixel((2, 2))} <= {(255,) * len(image.mode[:-1]) + (255,), (0,) * len(image.mode)}


def test_an_interlaced_png(folder: Path) -> None:
    # given a picture of Adam7's seven passes, made by hand
    picture = photo(37, 29)
    rows = b""
    for x, y, dx, dy in ADAM7:
        for row in range(y, 29, dy):
            rows += b"\0" + b"".join(bytes(picture.getpixel((column, row))) for column in range(x, 37, dx))  # type: ignore[arg-type] # RGB

    image = _image(folder, raw_png(37, 29, 8, 2, rows, interlace=1), "resize:37")

    assert ImageChops.difference(image, picture).getbbox() is None


@pytest.mark.parametrize("size", [(32, 32), (32, 33), (5, 1), (1, 5), (9, 2)])
def test_an_interlaced_png_whose_pixels_end_early_is_refused(folder: Path, size: tuple[int, int]) -> None:
    # given the bytes of all passes: a filter byte and the columns, for each row
    width, height = size
    rows = [b"\x01" * (1 + len(range(x, width, dx))) for x, y, dx, dy in ADAM7 if x < width for _ in range(y, height, dy)]
    assert _image(folder, raw_png(width, height, 8, 0, b"".join(rows), interlace=1), "grayscale").size == size
    (folder / "target").unlink()

    # when the last row is missing, which Pillow does not notice
    refused = _refusal(folder, raw_png(width, height, 8, 0, b"".join(rows[:-1]), interlace=1), "grayscale")

    # then
    assert refused.failure_code is FailureCode.CORRUPT_IMAGE


# Metadata


def test_no_metadata_come_through(folder: Path) -> None:
    planted = b"PLANTED"
    exif = exif_block(1) + planted
    a_jpeg = with_segments(
        jpeg(photo(160, 120), comment=planted, icc_profile=swapped_profile()),
        jpeg_segment(0xE1, b"Exif\0\0" + exif),
        jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + planted),
        jpeg_segment(0xED, b"Photoshop 3.0\0" + planted),
        jpeg_segment(0xE5, planted),
        jpeg_segment(0xFE, planted),
    )
    texts = [chunk(b"tEXt", b"Comment\0" + planted), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + planted)]
    texts += [chunk(b"zTXt", b"Author\0\0" + zlib.compress(planted)), chunk(b"eXIf", exif), chunk(b"prVt", planted)]
    profile = chunk(b"iCCP", b"swapped\0\0" + zlib.compress(swapped_profile()))
    resolution = chunk(b"pHYs", struct.pack(">IIB", 3000, 3000, 1))
    around = b"".join(texts)
    a_png = raw_png(2, 1, 8, 2, b"\0\x01\x02\x03\x04\x05\x06", before=profile + resolution + around, after=around)

    for steps in (DEFAULT, "grayscale", "resize:800"):
        assert _jpeg_markers(_render(folder, a_jpeg, steps)[1]) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}
        assert _png_chunks(_render(folder, a_png, steps)[1]) == {b"IHDR", b"IDAT", b"IEND"}


def _jpeg_markers(content: bytes) -> set[int]:
    """Of the segments in front of the pixels."""
    position, markers = 2, set()
    while 0xDA not in markers:
        _, marker, length = struct.unpack_from(">BBH", content, position)
        markers.add(marker)
        position += 2 + length
    return markers


def _png_chunks(content: bytes) -> set[bytes]:
    position, kinds = 8, set()
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        kinds.add(kind)
        position += 12 + length
    return kinds


def test_no_warning_of_the_library_comes_out(folder: Path) -> None:
    twice = chunk(b"acTL", struct.pack(">II", 1, 0)) * 2

    assert _image(folder, raw_png(2, 1, 8, 0, b"\0\0\0", before=twice), "grayscale").size == (2, 1)


def test_hostile_exif_costs_little_memory(folder: Path) -> None:
    content = with_exif(photo_jpeg(120, 80), exif_bomb())
    tracemalloc.start()
    try:
        assert _image(folder, content).size == (800, 533)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 32 << 20


# Never half a picture


@pytest.mark.parametrize("content", [photo_jpeg(640, 480), jpeg(photo(640, 480), progressive=True), photo_png(320, 240)])
@pytest.mark.parametrize("steps", [DEFAULT, "resize:100|grayscale", "grayscale"])
def test_a_file_cut_anywhere_is_refused(folder: Path, content: bytes, steps: str) -> None:
    cuts = [len(content) * eighth // 8 for eighth in range(1, 8)] + list(range(len(content) - 20, len(content)))
    for cut in cuts:
        refused = _refusal(folder, content[:cut], steps)
        assert refused.failure_code is FailureCode.CORRUPT_IMAGE
        assert "damaged or cut off" in refused.detail


@pytest.mark.parametrize("steps", [DEFAULT, "resize:100|grayscale", "resize:100"])
def test_a_cut_jpeg_that_was_given_an_end_again_is_refused(folder: Path, steps: str) -> None:
    content = photo_jpeg(640, 480)
    for eighth in range(3, 8):
        assert (
            _refusal(folder, content[: len(content) * eighth // 8] + b"\xff\xd9", steps).failure_code is FailureCode.CORRUPT_IMAGE
        )


@pytest.mark.parametrize("level", [127, 128])
def test_a_gray_picture_is_not_taken_for_a_cut_one(folder: Path, level: int) -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        for picture in (Image.new("L", (333, 222), level), Image.new("RGB", (333, 222), (level,) * 3)):
            content = jpeg(picture, **options)
            thumbnailed = with_exif(content, exif_block(1) + jpeg(Image.new("L", (16, 16), 128)))
            for whole in (content, thumbnailed, content + b"trailing \xff\xda\xff\xd9 bytes"):
                assert _image(folder, whole).size == (800, 533)


def test_pixels_that_end_early_are_refused_although_every_checksum_is_right(folder: Path) -> None:
    rows = b"".join(b"\0" + bytes([100]) * 300 for _ in range(100))
    for share in (0.3, 0.9, 0.99):
        short = raw_png(100, 100, 8, 2, rows[: int(len(rows) * share)])
        assert _refusal(folder, short).failure_code is FailureCode.CORRUPT_IMAGE


def test_a_black_or_transparent_end_is_not_taken_for_a_missing_one(folder: Path) -> None:
    for mode in ("L", "RGB", "RGBA", "LA", "1", "P"):
        assert _image(folder, png(Image.new(mode, (61, 41)))).size == (800, 538)


def test_a_changed_byte_in_a_png_is_refused(folder: Path) -> None:
    content = photo_png(64, 48)
    for position in range(40, len(content) - 12, len(content) // 20):
        changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        assert _refusal(folder, changed).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a" + bytes(100), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_picture_is_refused(folder: Path, content: bytes) -> None:
    assert _refusal(folder, content).failure_code is FailureCode.CORRUPT_IMAGE


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_rendered_or_refused_and_nothing_else(folder: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        rendered, result = _render(folder, bytes(content), "resize:40|grayscale", 1_000_000)
    except PictureRefused:
        return
    assert Image.open(io.BytesIO(result)).size == (rendered.width, rendered.height)


_SEEDS = (
    with_exif(jpeg(photo(64, 48), icc_profile=swapped_profile()), exif_block(6)),
    jpeg(photo(64, 48), progressive=True),
    png(photo(32, 24), icc_profile=swapped_profile()),
    png(photo(32, 24).convert("P")),
)
