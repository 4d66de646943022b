"""The header check of JPEGs."""

import io
from pathlib import Path

import pytest

from common.errors import TooLarge, UnsupportedMedia
from tests.hostile_files import jpeg_with_frame
from tests.pictures import exif_block, jpeg, jpeg_segment, photo, photo_jpeg, with_exif, with_segments
from tests.unit.inspection.conftest import Inspect

DATA = Path(__file__).parents[2] / "data"


def _mpo() -> bytes:
    """As phones write them: a JPEG with another one behind it."""
    buffer = io.BytesIO()
    photo(120, 80).save(buffer, "MPO", save_all=True, append_images=[photo(60, 40)])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        jpeg(photo(120, 80), progressive=True),
        jpeg(photo(120, 80).convert("L")),
        jpeg(photo(120, 80).convert("CMYK")),
        _mpo(),
        with_segments(photo_jpeg(120, 80), jpeg_segment(0xFE, b"x"), b"junk", b"\xff\0", b"\xff\xff\xff"),
        with_segments(photo_jpeg(120, 80), jpeg_segment(0xE2, b"MPF\0" + bytes(20))),
    ],
    ids=["progressive", "gray", "cmyk", "mpo", "junk between segments", "broken mpo index"],
)
def test_a_picture_passes_with_its_size(content: bytes, inspected: Inspect) -> None:
    found = inspected(content)

    assert (found.content_type, found.width, found.height, found.frames) == ("image/jpeg", 120, 80, 1)


@pytest.mark.parametrize("order", [">", "<"])
def test_exif_of_either_byte_order_is_read(order: str, inspected: Inspect) -> None:
    found = inspected(with_exif(photo_jpeg(120, 80), exif_block(6, order)))

    assert (found.width, found.height) == (80, 120)


def test_exif_may_go_on_in_the_next_segment(inspected: Inspect) -> None:
    start, end = exif_block(6)[:13], exif_block(6)[13:]
    parts = [jpeg_segment(0xE1, b"Exif\0\0" + part) for part in (start, end)]

    found = inspected(with_segments(photo_jpeg(120, 80), *parts))

    assert (found.width, found.height) == (80, 120)


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", exif_block(0), exif_block(9), bytes(100)]
)
def test_broken_exif_means_upright(exif: bytes, inspected: Inspect) -> None:
    assert inspected(with_exif(photo_jpeg(120, 80), exif)).width == 120


@pytest.mark.parametrize(("size", "words"), [((30_000, 30_000), "30000 × 30000"), ((65_500, 65_500), "65500 × 65500")])
def test_a_header_that_claims_too_many_pixels_is_refused(size: tuple[int, int], words: str, inspected: Inspect) -> None:
    with pytest.raises(TooLarge, match=words):
        inspected(jpeg_with_frame(size))


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        *((marker, "arithmetic coding") for marker in (0xC9, 0xCA)),
        *((marker, "lossless coding") for marker in (0xC3, 0xCB, 0xF7)),
        *((marker, "hierarchical coding") for marker in (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE)),
    ],
)
def test_ways_of_coding_that_nobody_decodes_are_named(marker: int, words: str, inspected: Inspect) -> None:
    assert inspected(jpeg_with_frame()).width == 16
    with pytest.raises(UnsupportedMedia, match=f"{words}, which is not supported. Save it as a baseline or progressive JPEG"):
        inspected(jpeg_with_frame(marker=marker))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pictures/arithmetic.jpg", "arithmetic coding"),
        ("inspection/ffmpeg-lossless.jpg", "lossless coding"),
        ("inspection/ffmpeg.jls", "lossless coding"),
    ],
)
def test_files_of_other_programs_are_told_the_same(name: str, words: str, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match=words):
        inspected((DATA / name).read_bytes())


def test_other_depths_and_numbers_of_colours_are_named(inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match="12 bits a sample"):
        inspected(jpeg_with_frame(marker=0xC1, bits=12))
    with pytest.raises(UnsupportedMedia, match="2 colour components"):
        inspected(jpeg_with_frame(samplings=(0x11, 0x11)))
    with pytest.raises(UnsupportedMedia, match="no whole number"):
        inspected(jpeg_with_frame(samplings=(0x32, 0x21, 0x11)))


_FRAME = jpeg_segment(0xC0, bytes((8, 0, 16, 0, 16, 1, 1, 0x11, 0)))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\0",
        b"\xff\xd8\xff\xe0\0\1" + bytes(100),
        b"\xff\xd8" + _FRAME + b"\xff\xd9",
        b"\xff\xd8" + jpeg_segment(0xDA, bytes(10)) + b"\xff\xd9",
        jpeg_with_frame((0, 16)),
        jpeg_with_frame((16, 0)),
        jpeg_with_frame(samplings=(0x20, 0x11, 0x11)),
        jpeg_with_frame(samplings=(0x51, 0x11, 0x11)),
        with_segments(jpeg_with_frame(), _FRAME),
        with_segments(jpeg_with_frame(), b"\xff\xd9"),
        with_segments(jpeg_with_frame(), b"\xff\xd8"),
        with_segments(jpeg_with_frame(), jpeg_segment(0xF0, b"")),
        with_segments(jpeg_with_frame(), jpeg_segment(0xC0, b"\x08\0\x10\0\x10\x01")),
    ],
)
def test_a_malformed_header_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)


def test_a_cut_picture_with_a_thumbnail_is_refused(inspected: Inspect) -> None:
    content = with_exif(photo_jpeg(640, 480), exif_block(1) + photo_jpeg(16, 16))

    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(content[: len(content) // 2])
