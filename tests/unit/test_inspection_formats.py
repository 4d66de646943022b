"""The header check on every format: size, frames, orientation, what is cut, what is over a limit, and what only looks like one."""

import io
import random
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from gateway.inspection import Inspected, inspect
from tests.fuzz.seeds import seeds
from tests.pictures import exif_block, photo

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
ANIMATED = ("GIF", "WEBP", "PNG")
LIMITS = Limits()


def _saved(kind: str, size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo(*size).save(buffer, kind, **options)
    return buffer.getvalue()


def _animated(kind: str, frames: int, size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    return _saved(kind, size, save_all=True, append_images=[photo(*size, seed) for seed in range(2, frames + 1)], **options)


def _inspected(folder: Path, content: bytes, limits: Limits = LIMITS) -> Inspected:
    path = folder / "upload"
    path.write_bytes(content)
    return inspect(path, limits)


@pytest.mark.parametrize("kind", KINDS)
def test_type_and_size_are_the_contents(kind: str, tmp_path: Path) -> None:
    found = _inspected(tmp_path, _saved(kind))

    assert found == Inspected(content_type=f"image/{kind.lower()}", width=60, height=40, frames=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_upright_pictures(kind: str, orientation: int, tmp_path: Path) -> None:
    content = _saved(kind, exif=b"Exif\0\0" + exif_block(orientation))
    if kind == "TIFF":
        content = _saved(kind, tiffinfo={274: orientation})

    found = _inspected(tmp_path, content)

    assert (found.width, found.height) == ((40, 60) if orientation >= 5 else (60, 40))


@pytest.mark.parametrize("kind", ANIMATED)
def test_frames_are_counted(kind: str, tmp_path: Path) -> None:
    assert _inspected(tmp_path, _animated(kind, 5)).frames == 5


@pytest.mark.parametrize("kind", ANIMATED)
@pytest.mark.parametrize("limits", [Limits(frames=4), Limits(pixels=2399), Limits(total_pixels=2400 * 5 - 1)])
def test_an_animation_over_a_limit_is_too_large(kind: str, limits: Limits, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        _inspected(tmp_path, _animated(kind, 5), limits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_pixels_holds_to_the_pixel(kind: str, tmp_path: Path) -> None:
    assert _inspected(tmp_path, _saved(kind), Limits(pixels=2400)).width == 60
    with pytest.raises(TooLarge, match="60 × 40"):
        _inspected(tmp_path, _saved(kind), Limits(pixels=2399))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_is_refused(kind: str, tmp_path: Path) -> None:
    whole = _saved(kind)

    for eighth in range(8):
        with pytest.raises(UnsupportedMedia):
            _inspected(tmp_path, whole[: len(whole) * eighth // 8])


def _gif_bomb() -> bytes:
    """Claims 65,535 × 65,535."""
    return (
        b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\1\0\0;"
    )


def _bmp_bomb() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + header + bytes(100)


def _tiff(width: int, height: int, entries: int = 0) -> bytes:
    """A plain gray one, whose directory may have any number of further fields that nobody knows."""
    fields = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, height)]
    fields += [(279, 4, 1, width * height)] + [(60_000, 4, 1, 0)] * entries
    head = b"II*\0" + struct.pack("<IH", 8, len(fields))
    return head + b"".join(struct.pack("<HHII", *field) for field in fields) + bytes(4)


def _webp_bomb() -> bytes:
    """A canvas of 16,777,216 × 255."""
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_777_215).to_bytes(3, "little") + (254).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended


@pytest.mark.parametrize(
    "bomb", [_gif_bomb(), _bmp_bomb(), _tiff(60_000, 60_000), _webp_bomb()], ids=["GIF", "BMP", "TIFF", "WebP"]
)
def test_a_decompression_bomb_is_too_large(bomb: bytes, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        _inspected(tmp_path, bomb)


@pytest.mark.parametrize(
    "disguised",
    [
        b"BM" + b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 3,
        b"II*\0<html><script>alert(1)</script></html>",
        b"GIF89a/*" + b"<script>" * 10,
        b"RIFF\x20\0\0\0WAVEfmt " + bytes(40),
        b"RIFF\x20\0\0\0WEBPVP8 " + bytes(40),
        b"\xff\xd8\xff\xe0<?php phpinfo(); ?>",
        b"\x89PNG\r\n\x1a\n%PDF-1.7 1 0 obj",
        b"II+\0\x08\0\0\0" + bytes(100),
        b"\0\0\0\x1cftypavif" + bytes(100),
        b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
        b"8BPS\0\1" + bytes(100),
    ],
)
def test_what_only_begins_like_a_picture_is_refused(disguised: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia):
        _inspected(tmp_path, disguised)


def test_a_polyglot_is_judged_as_the_picture_that_it_is(tmp_path: Path) -> None:
    found = _inspected(tmp_path, _saved("JPEG") + b"<script>alert(1)</script>PK\x03\x04")

    assert found.content_type == "image/jpeg"


@pytest.mark.parametrize(
    "content",
    [
        b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"\x21\xfe\1a\0" * 1_900_000 + b";",
        _tiff(9, 9, entries=65_000),
        b"\x89PNG\r\n\x1a\n" + bytes(9_000_000),
        b"\xff\xd8" + b"\xff\xe1\0\2" * 2_500_000,
        b"RIFF" + struct.pack("<I", 9_000_012) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10) + b"JUNK\0\0\0\0" * 1_100_000,
    ],
    ids=["GIF", "TIFF", "PNG", "JPEG", "WebP"],
)
def test_a_header_without_end_costs_little(content: bytes, tmp_path: Path) -> None:
    """Of processor time: an upload of the largest size, made to keep the header check busy."""
    path = tmp_path / "upload"
    path.write_bytes(content)
    started = time.thread_time()

    with suppress(UnsupportedMedia, TooLarge):
        inspect(path, LIMITS)

    assert time.thread_time() - started < 3


def test_nothing_but_a_refusal_comes_out_of_noise(tmp_path: Path) -> None:
    dice, whole = random.Random(3), seeds()
    path = tmp_path / "upload"
    refused = 0
    for _ in range(500):
        head = dice.choice(whole)
        path.write_bytes(head[: dice.randrange(40)] + dice.randbytes(200))
        try:
            inspect(path, LIMITS)
        except (UnsupportedMedia, TooLarge):
            refused += 1
    assert refused > 490
