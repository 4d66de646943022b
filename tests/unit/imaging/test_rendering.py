"""What holds whatever the format: sizes, limits, no metadata, never half a picture, and nothing but a refusal for what is none."""

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
    all_stored,
    chunk,
    exif_block,
    exif_bomb,
    huge_header_png,
    jpeg,
    jpeg_segment,
    photo,
    photo_jpeg,
    photo_png,
    png,
    raw_png,
    stored,
    swapped_profile,
    with_exif,
    with_segments,
)
from tests.rendering import QUARTERS, corners, image, is_near, quarters, refusal, render
from worker.decoding.picture import check_memory

REFUSED = ["arithmetic.jpg", "bigtiff.tif"]


@pytest.mark.parametrize(
    ("content", "kind"), [(photo_jpeg(1601, 1067), "JPEG"), (photo_png(1601, 1067), "PNG")], ids=["jpeg", "png"]
)
def test_the_default_makes_it_800_wide_and_gray_in_its_own_format(tmp_path: Path, content: bytes, kind: str) -> None:
    rendered, result = render(tmp_path, content)

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
def test_sizes(tmp_path: Path, encode: Any, size: tuple[int, int], result: tuple[int, int]) -> None:
    assert image(tmp_path, encode(Image.new("RGB", size, (200, 100, 50)))).size == result


def test_an_output_over_the_limit_is_refused_before_it_is_made(tmp_path: Path) -> None:
    for content in (jpeg(Image.new("L", (1, 20_000))), png(Image.new("L", (1, 20_000)))):
        refused = refusal(tmp_path, content)
        assert refused.failure_code is FailureCode.LIMIT_EXCEEDED
        assert "resize:800" in refused.detail


@pytest.mark.parametrize("content", [huge_header_png(30_000, 30_000), photo_jpeg(101, 100), photo_png(101, 100)])
def test_an_input_over_the_limit_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, content, limits=Limits(pixels=10_000)).failure_code is FailureCode.LIMIT_EXCEEDED


def test_gray_is_bt601_luma(tmp_path: Path) -> None:
    for picture, encode in ((quarters(1600, 1200), png), (quarters(1600, 1200), jpeg)):
        gray = corners(image(tmp_path, encode(picture)))
        assert is_near(gray, (76, 150, 29, 255), by=2), (encode, gray)


@pytest.mark.parametrize("steps", ["resize:100|grayscale", "grayscale|resize:100", "resize:400|grayscale|resize:100"])
def test_the_order_of_steps_is_kept_and_makes_no_visible_difference_here(tmp_path: Path, steps: str) -> None:
    picture = photo(900, 600)

    result = image(tmp_path, png(picture), steps)

    assert result.size == (100, 67)
    plain = picture.resize((100, 67), Image.Resampling.LANCZOS).convert("L")
    assert ImageStat.Stat(ImageChops.difference(result, plain)).mean[0] < 1.5


def test_colours_stay_where_gray_is_not_asked_for(tmp_path: Path) -> None:
    for encode in (jpeg, png):
        result = image(tmp_path, encode(quarters(1200, 800)), "resize:300")
        assert (result.mode, result.size) == ("RGB", (300, 200))
        assert is_near(corners(result), QUARTERS)


def test_without_a_resize_the_size_stays(tmp_path: Path) -> None:
    assert image(tmp_path, photo_jpeg(333, 222), "grayscale").size == (333, 222)


def test_the_encoding_is_plain(tmp_path: Path) -> None:
    _, result = render(tmp_path, photo_jpeg(900, 600), "resize:800")

    image = Image.open(io.BytesIO(result))
    assert "progression" not in image.info
    assert image.quantization == Image.open(io.BytesIO(jpeg(photo(80, 60), quality=85))).quantization  # type: ignore[attr-defined] # of JPEGs


@pytest.mark.parametrize("width", [797, 798, 799, 801, 802, 803, 1597, 1602, 3201])
@pytest.mark.parametrize("encode", [jpeg, png])
def test_widths_that_no_four_divides(tmp_path: Path, encode: Any, width: int) -> None:
    result = image(tmp_path, encode(quarters(width, 333)), "resize:401")

    assert result.size == (401, int(333 * 401 / width + 0.5))
    assert is_near(corners(result), QUARTERS)


# Metadata


def test_no_metadata_come_through(tmp_path: Path) -> None:
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

    for steps in (processing.DEFAULT, "grayscale", "resize:800"):
        assert _jpeg_markers(render(tmp_path, a_jpeg, steps)[1]) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}
        assert _png_chunks(render(tmp_path, a_png, steps)[1]) == {b"IHDR", b"IDAT", b"IEND"}


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


def test_no_warning_of_the_library_comes_out(tmp_path: Path) -> None:
    twice = chunk(b"acTL", struct.pack(">II", 1, 0)) * 2

    assert image(tmp_path, raw_png(2, 1, 8, 0, b"\0\0\0", before=twice), "grayscale").size == (2, 1)


def test_hostile_exif_costs_little_memory(tmp_path: Path) -> None:
    content = with_exif(photo_jpeg(120, 80), exif_bomb())
    tracemalloc.start()
    try:
        assert image(tmp_path, content).size == (800, 533)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 32 << 20


# Never half a picture


@pytest.mark.parametrize("name", [name for name in all_stored(".jpg", ".png", ".tif", ".bmp") if name not in REFUSED])
def test_a_file_of_another_program_cut_at_every_eighth_is_refused(tmp_path: Path, name: str) -> None:
    content = stored(name)
    render(tmp_path, content, "grayscale")

    for eighth in range(1, 8):
        refused = refusal(tmp_path, content[: len(content) * eighth // 8], "grayscale")
        assert refused.failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("content", [photo_jpeg(640, 480), jpeg(photo(640, 480), progressive=True), photo_png(320, 240)])
@pytest.mark.parametrize("steps", [processing.DEFAULT, "resize:100|grayscale", "grayscale"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, content: bytes, steps: str) -> None:
    cuts = [len(content) * eighth // 8 for eighth in range(1, 8)] + list(range(len(content) - 20, len(content)))
    for cut in cuts:
        refused = refusal(tmp_path, content[:cut], steps)
        assert refused.failure_code is FailureCode.CORRUPT_IMAGE
        assert "damaged or cut off" in refused.detail


@pytest.mark.parametrize("content", [b"", b"text", b"GIF89a" + bytes(100), b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, content).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_decoded_is_refused_with_a_word_about_why(tmp_path: Path, name: str) -> None:
    refused = refusal(tmp_path, stored(name))

    assert refused.failure_code is FailureCode.CORRUPT_IMAGE
    assert "damaged" not in refused.detail


def test_memory_that_is_not_to_be_had_is_no_damage() -> None:
    check_memory(1 << 20)
    with pytest.raises(MemoryError):
        check_memory(1 << 60)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_rendered_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        rendered, result = render(tmp_path, bytes(content), "resize:40|grayscale", Limits(pixels=1_000_000))
    except PictureRefused:
        return
    assert Image.open(io.BytesIO(result)).size == (rendered.width, rendered.height)


_SEEDS = (
    with_exif(jpeg(photo(64, 48), icc_profile=swapped_profile()), exif_block(6)),
    jpeg(photo(64, 48), progressive=True),
    png(photo(32, 24), icc_profile=swapped_profile()),
    png(photo(32, 24).convert("P")),
    *(stored(name) for name in all_stored(".tif", ".bmp", ".jpg")),
)
