"""The header check of BMPs."""

from pathlib import Path

import pytest

from common.errors import TooLarge, UnsupportedMedia
from tests.hostile_files import bmp, bmp_bomb
from tests.unit.inspection.conftest import Inspect

DATA = Path(__file__).parents[2] / "data"
RGB_555, ODD = (0x7C00, 0x3E0, 0x1F), (0xFF0, 0xF00F, 0)


@pytest.mark.parametrize(
    "content",
    [
        bmp(),
        bmp((6, -4)),
        *(bmp(header_bytes=length) for length in (12, 52, 56, 64, 108, 124)),
        *(bmp(depth=depth, palette=bytes(4 << depth)) for depth in (1, 4, 8)),
        bmp(depth=8, header_bytes=12, palette=bytes(768)),
        bmp(depth=8, colours=3, palette=bytes(12)),
        bmp(depth=8, palette=bytes(1024), pixels_at=0),
        bmp(depth=8, palette=bytes(1024), pixels_at=54),
        bmp(depth=16),
        bmp(depth=32),
        bmp(depth=16, compression=3, masks=RGB_555),
        bmp(depth=16, compression=3, masks=ODD),
        bmp(depth=32, compression=3, masks=(0xFF0000, 0xFF00, 0xFF)),
        bmp(depth=32, compression=3, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000), header_bytes=124),
        bmp(depth=8, compression=1, palette=bytes(1024), pixels=b"\6\0\0\0" * 4 + b"\0\1"),
        bmp(depth=4, compression=2, palette=bytes(64), pixels=b"\6\0\0\0" * 4 + b"\0\1"),
        bmp(pixels=bytes(18 + 2) * 3 + bytes(18)),
    ],
)
def test_what_is_decoded_passes(content: bytes, inspected: Inspect) -> None:
    found = inspected(content)

    assert (found.content_type, found.width, found.height, found.frames) == ("image/bmp", 6, 4, 1)


@pytest.mark.parametrize(
    ("bomb", "words"),
    [
        (bmp_bomb((10_000, 6_000)), "10000 × 6000"),
        (bmp((60_000, 60_000), pixels=b""), "60000 × 60000"),
        (bmp((60_000, -60_000), pixels=b""), "60000 × 60000"),
        (bmp((2**31 - 1, -(2**31)), pixels=b""), "2147483647 × 2147483648"),
        (bmp((65_535, 65_535), header_bytes=12, pixels=b""), "65535 × 65535"),
    ],
)
def test_a_bomb_is_too_large(bomb: bytes, words: str, inspected: Inspect) -> None:
    with pytest.raises(TooLarge, match=words):
        inspected(bomb)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bmp(compression=4), "compression 4 with 24 bits"),
        (bmp(compression=5), "compression 5 with 24 bits"),
        (bmp(compression=1), "compression 1 with 24 bits"),
        (bmp(depth=8, compression=2), "compression 2 with 8 bits"),
        (bmp(depth=2), "compression 0 with 2 bits"),
        (bmp(depth=64), "compression 0 with 64 bits"),
        (bmp(depth=32, compression=3, masks=(0xFF, 0xFF00, 0xFF0000)), "unusual colour masks"),
        (bmp(depth=24, compression=3, header_bytes=64, masks=(0xFF0000, 0xFF00, 0xFF)), "one of OS/2's own compressions"),
    ],
)
def test_what_nobody_decodes_is_named(content: bytes, words: str, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match=f"{words}.*not supported. Save it as"):
        inspected(content)


@pytest.mark.parametrize(
    "content",
    [
        b"BM",
        b"BM" + bytes(60),
        b"BM" + b"\xff" * 100,
        bmp(header_bytes=41),
        bmp((0, 4)),
        bmp((6, 0)),
        bmp((-6, 4), pixels=bytes(80)),
    ],
)
def test_a_malformed_header_is_refused(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(content)


@pytest.mark.parametrize(
    "content",
    [
        bmp()[:-3],
        bmp(pixels_at=10_000),
        bmp(depth=8, palette=bytes(1024), compression=1, pixels=b""),
        bmp((1, 1), depth=8, palette=bytes(10), pixels_at=20),
        bmp(depth=8, palette=bytes(1024), pixels=b"", pixels_at=54),
    ],
    ids=["pixels", "place", "coded", "palette", "pixels in place of the palette"],
)
def test_pixels_and_palette_must_be_in_the_file(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match="cut off"):
        inspected(content)
