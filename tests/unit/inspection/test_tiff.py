"""The header check of TIFFs."""

import struct
from pathlib import Path

import pytest

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from tests.hostile_files import tiff, tiff_bomb, tiff_in_a_circle, tiff_of_many_fields
from tests.unit.inspection.conftest import Inspect

DATA = Path(__file__).parents[2] / "data" / "pictures"
SHORT, LONG, BYTE, ASCII = 3, 4, 1, 2


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (6, 4)), (4, (6, 4)), (5, (4, 6)), (8, (4, 6)), (0, (6, 4)), (9, (6, 4))])
def test_either_byte_order_is_read_and_turned_upright(
    orientation: int, size: tuple[int, int], order: str, inspected: Inspect
) -> None:
    found = inspected(tiff(order=order, fields=[(274, SHORT, 1, orientation)]))

    assert (found.content_type, found.width, found.height, found.frames) == ("image/tiff", *size, 1)


@pytest.mark.parametrize("field", [(274, ASCII, 1, 6), (274, SHORT, 9, 0xFFFFFFF0), (274, SHORT, 0, 6)])
def test_a_broken_orientation_means_upright(field: tuple[int, int, int, int], inspected: Inspect) -> None:
    assert inspected(tiff(fields=[field])).width == 6


def test_of_several_pages_the_first_counts(inspected: Inspect) -> None:
    found = inspected((DATA / "pages.tif").read_bytes())

    assert (found.width, found.height, found.frames) == (48, 32, 1)


def test_fields_that_say_nothing_about_pixels_may_be_broken(inspected: Inspect) -> None:
    broken = [(700, BYTE, 0xFFFFFFFF, 0xFFFFFFFF), (40_001, 77, 5, 5), (34_665, LONG, 1, 0xFFFFFFFF), (270, ASCII, 1000, 9999)]

    assert inspected(tiff(fields=broken)).width == 6


@pytest.mark.parametrize("content", [tiff_in_a_circle(), tiff_of_many_fields(65_000)], ids=["circle", "fields"])
def test_a_directory_that_never_ends_passes_for_what_it_shows(content: bytes, inspected: Inspect) -> None:
    assert inspected(content).width == 6


def test_a_missing_page_means_that_the_file_is_cut_off(inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(tiff(next_page=5000))


@pytest.mark.parametrize(
    ("bomb", "words"),
    [
        (tiff_bomb((10_000, 6_000)), "10000 × 6000"),
        (tiff((60_000, 60_000), pixels=b""), "60000 × 60000"),
        (tiff((2**32 - 1, 2**32 - 1), pixels=b""), "4294967295 × 4294967295"),
        (tiff(fields=[(322, LONG, 1, 60_000), (323, LONG, 1, 60_000)]), "tiles have more than 200000000 pixels"),
    ],
)
def test_a_bomb_is_too_large(bomb: bytes, words: str, inspected: Inspect) -> None:
    with pytest.raises(TooLarge, match=words):
        inspected(bomb)


def test_the_limit_of_tiles_holds_to_the_pixel(inspected: Inspect) -> None:
    tiles = tiff(fields=[(322, SHORT, 1, 6), (323, SHORT, 1, 5), (324, LONG, 1, 8), (325, LONG, 1, 30)])

    assert inspected(tiles, Limits(total_pixels=30)).width == 6
    with pytest.raises(TooLarge):
        inspected(tiles, Limits(total_pixels=29))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([(259, SHORT, 1, 6)], "compression 6"),
        ([(259, SHORT, 1, 50_000)], "compression 50000"),
        ([(262, SHORT, 1, 32_803)], "colour space 32803"),
        ([(277, SHORT, 1, 9)], "9 samples a pixel"),
        ([(277, SHORT, 1, 0)], "0 samples a pixel"),
        ([(262, SHORT, 1, 2)], "1 samples a pixel of colour space 2"),
        ([(258, SHORT, 1, 12)], "12"),
        ([(339, SHORT, 1, 2)], "kind"),
        ([(50_706, BYTE, 4, 1)], r"raw format of a camera \(DNG\)"),
    ],
)
def test_what_nobody_decodes_is_named(fields: list[tuple[int, int, int, int]], words: str, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match=f"{words}.*not supported. Save it as"):
        inspected(tiff(fields=fields))


def _without(tag: int) -> bytes:
    """The field is of a kind that has no numbers."""
    return tiff(fields=[(tag, SHORT, 0, 0)])


@pytest.mark.parametrize(
    "content",
    [
        b"II*\0",
        b"II*\0\0\0\0\0",
        b"II*\0\xff\xff\xff\xff" + bytes(100),
        b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
        tiff()[:-4],
        tiff((0, 4)),
        tiff((6, 0)),
        _without(256),
        _without(257),
        _without(273),
        tiff(fields=[(256, ASCII, 1, 6)]),
        tiff(fields=[(278, LONG, 1, 0)]),
        tiff(fields=[(322, SHORT, 1, 0), (323, SHORT, 1, 4)]),
        tiff(fields=[(322, SHORT, 1, 6)]),
        tiff(fields=[(278, LONG, 1, 2)]),
        tiff(fields=[(284, SHORT, 1, 2), (262, SHORT, 1, 2), (277, SHORT, 1, 3)]),
        tiff(fields=[(273, LONG, 1, 100_000)]),
        tiff(fields=[(279, LONG, 1, 100_000)]),
        tiff(fields=[(279, LONG, 1, 23)]),
        tiff(fields=[(273, LONG, 0xFFFFFFFF, 8), (279, LONG, 0xFFFFFFFF, 8), (278, LONG, 1, 1)]),
    ],
)
def test_a_malformed_file_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)


def test_every_strip_must_be_in_the_file(inspected: Inspect) -> None:
    # given two strips of two rows, whose places stand where pixels are
    def in_strips(*offsets: int) -> bytes:
        places = struct.pack("<IIII", *offsets, 12, 12)
        strips = [(278, SHORT, 1, 2), (273, LONG, 2, 8), (279, LONG, 2, 16)]
        return tiff(fields=strips, pixels=places + bytes(24))

    # then
    assert inspected(in_strips(24, 36)).width == 6
    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(in_strips(24, 100_000))


def test_plain_ycbcr_may_have_fewer_colours_than_pixels(inspected: Inspect) -> None:
    halved = [(262, SHORT, 1, 6), (277, SHORT, 1, 3), (530, SHORT, 2, 0x10002)]

    assert inspected(tiff((8, 4), fields=halved, pixels=bytes(8 * 4 * 3 // 2))).width == 8


def test_compressed_strips_may_be_shorter_than_their_pixels(inspected: Inspect) -> None:
    assert inspected(tiff(fields=[(259, SHORT, 1, 5), (279, LONG, 1, 3)])).width == 6
    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(tiff(fields=[(259, SHORT, 1, 5), (279, LONG, 1, 0)]))
