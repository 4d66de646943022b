"""The header check of PNGs and APNGs."""

import struct
from pathlib import Path

import pytest

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from tests.hostile_files import apng, metadata_bomb, png_bomb
from tests.pictures import PNG_SIGNATURE, chunk, exif_block, huge_header_png, photo, png, raw_png
from tests.unit.inspection.conftest import Inspect

DATA = Path(__file__).parents[2] / "data" / "inspection"
WHOLE = (0, 0, 8, 6)


def test_a_palette_passes(inspected: Inspect) -> None:
    assert inspected(png(photo(120, 80).convert("P"))).width == 120


@pytest.mark.parametrize("order", [">", "<"])
def test_exif_is_read_before_and_behind_the_pixels(order: str, inspected: Inspect) -> None:
    exif, rows = chunk(b"eXIf", exif_block(6, order)), bytes(121 * 80)

    before, behind = inspected(raw_png(120, 80, 8, 0, rows, before=exif)), inspected(raw_png(120, 80, 8, 0, rows, after=exif))

    assert (before.width, before.height) == (behind.width, behind.height) == (80, 120)


def test_exif_of_another_program_is_read(inspected: Inspect) -> None:
    found = inspected((DATA / "exiftool-orientation-8.png").read_bytes())

    assert (found.width, found.height) == (16, 24)


@pytest.mark.parametrize("exif", [b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", exif_block(77)])
def test_broken_exif_means_upright(exif: bytes, inspected: Inspect) -> None:
    assert inspected(raw_png(2, 1, 8, 0, bytes(3), before=chunk(b"eXIf", exif))).width == 2


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_metadata_may_be_as_large_as_they_like(kind: bytes, inspected: Inspect) -> None:
    assert inspected(raw_png(10, 10, 8, 0, bytes(110), before=metadata_bomb(kind, 50 << 20))).width == 10


def test_metadata_may_be_damaged(inspected: Inspect) -> None:
    text = bytearray(chunk(b"tEXt", b"a\0b"))
    text[-1] ^= 1

    assert inspected(raw_png(10, 10, 8, 0, bytes(110), before=bytes(text) + chunk(b"pHYs", b"x") + chunk(b"iCCP", b""))).width == 10


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (huge_header_png(30_000, 30_000), "30000 × 30000"),
        (huge_header_png(2**31 - 1, 2**31 - 1), "2147483647 × 2147483647"),
        (huge_header_png(5001, 10_000), "5001 × 10000"),
        (png_bomb((10_000, 6_000)), "10000 × 6000"),
    ],
)
def test_a_bomb_is_too_large(content: bytes, words: str, inspected: Inspect) -> None:
    with pytest.raises(TooLarge, match=words):
        inspected(content)


def _with_wrong_checksum(kind: bytes) -> bytes:
    content = bytearray(raw_png(2, 1, 8, 3, bytes(3), before=chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\1")))
    place = content.index(kind)
    (length,) = struct.unpack_from(">I", content, place - 4)
    content[place + 4 + length] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        PNG_SIGNATURE,
        PNG_SIGNATURE + chunk(b"IEND"),
        PNG_SIGNATURE + chunk(b"IDAT", b"x") + chunk(b"IEND"),
        PNG_SIGNATURE + chunk(b"IHDR", b"short") + chunk(b"IEND"),
        PNG_SIGNATURE + struct.pack(">I4s", 0xFFFFFFFF, b"tEXt") + b"x",
        PNG_SIGNATURE + chunk(b"CgBI", bytes(4)) + raw_png(2, 1, 8, 0, bytes(3))[8:],
        raw_png(2, 1, 8, 0, bytes(3), after=struct.pack(">I4s", 0xFFFFFFF0, b"eXIf")),
        raw_png(0, 10, 8, 0, b""),
        raw_png(10, 0, 8, 0, b""),
        raw_png(10, 10, 7, 0, b""),
        raw_png(10, 10, 16, 3, b"", before=chunk(b"PLTE", bytes(6))),
        raw_png(10, 10, 8, 5, b""),
        raw_png(10, 10, 8, 0, b"", interlace=2),
        raw_png(10, 10, 8, 3, b""),
        raw_png(10, 10, 8, 3, b"", after=chunk(b"PLTE", bytes(6))),
        raw_png(10, 10, 8, 0, b"", before=chunk(b"ABCD")),
        raw_png(10, 10, 8, 0, b"", before=chunk(b"a\0b\xff")),
        raw_png(10, 10, 8, 0, b"", before=raw_png(1, 1, 8, 0, b"")[8:33]),
        raw_png(10, 10, 8, 0, b"")[:33] + chunk(b"IEND"),
        _with_wrong_checksum(b"IHDR"),
        _with_wrong_checksum(b"PLTE"),
        _with_wrong_checksum(b"tRNS"),
    ],
)
def test_a_malformed_header_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)


# ---- APNG


@pytest.mark.parametrize(("name", "frames"), [("apngasm.png", 3), ("apngasm-hidden-first.png", 2), ("ffmpeg-animated.png", 3)])
def test_animations_of_other_programs_are_counted(name: str, frames: int, inspected: Inspect) -> None:
    found = inspected((DATA / name).read_bytes())

    assert (found.width, found.height, found.frames) == (24, 16, frames)


def test_the_canvas_counts_for_every_frame(inspected: Inspect) -> None:
    content = apng((8, 6), [WHOLE, (0, 0, 1, 1), (7, 5, 1, 1)])

    assert inspected(content, Limits(total_pixels=144)).frames == 3
    with pytest.raises(TooLarge, match="3 frames of 8 × 6"):
        inspected(content, Limits(total_pixels=143))


def test_the_picture_for_programs_that_know_no_animations_is_no_frame(inspected: Inspect) -> None:
    assert inspected(apng((8, 6), [WHOLE, WHOLE], hidden_first=True), Limits(frames=2)).frames == 2


@pytest.mark.parametrize("claims", [(0,), (1, 1), (3, 2)])
def test_a_picture_without_one_valid_claim_of_frames_is_still(claims: tuple[int, ...], inspected: Inspect) -> None:
    controls = b"".join(chunk(b"acTL", struct.pack(">II", count, 0)) for count in claims)

    assert inspected(raw_png(2, 1, 8, 0, bytes(3), before=controls)).frames == 1
    assert inspected(raw_png(2, 1, 8, 0, bytes(3), after=chunk(b"acTL", struct.pack(">II", 5, 0)))).frames == 1


@pytest.mark.parametrize(
    "content",
    [
        apng((8, 6), [WHOLE], promised=2),
        apng((8, 6), [WHOLE, WHOLE], promised=1),
        apng((8, 6), [WHOLE], promised=2**31),
        apng((8, 6), [(0, 0, 8, 5), WHOLE]),
        apng((8, 6), [WHOLE, (1, 0, 8, 6)]),
        apng((8, 6), [WHOLE, (0, 1, 8, 6)]),
        apng((8, 6), [WHOLE, (0, 0, 0, 6)]),
        apng((8, 6), [WHOLE, (0, 0, 8, 0)]),
        apng((8, 6), [WHOLE, (2**32 - 1, 0, 2, 1)]),
        apng((8, 6), [WHOLE], disposal=3),
        apng((8, 6), [WHOLE, WHOLE], numbers=(0, 2, 1)),
        apng((8, 6), [WHOLE, WHOLE], numbers=(1, 2, 3)),
    ],
)
def test_an_animation_that_contradicts_itself_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)


def test_too_many_frames_are_too_large_before_they_are_all_counted(inspected: Inspect) -> None:
    with pytest.raises(TooLarge, match="more than 300 frames"):
        inspected(apng((1, 1), [(0, 0, 1, 1)] * 310)[:-50])
