"""The header check, whatever the format: honest files pass with their upright size, all else is refused cheaply."""

import io
import random
import threading
import time
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from gateway.inspection import Inspected, inspect
from tests.fuzz.seeds import seeds
from tests.hostile_files import (
    UPLOAD,
    bmp,
    filled,
    gif,
    metadata_bomb,
    riff_chunk,
    tiff,
    tiff_in_a_circle,
    tiff_of_many_fields,
    webp,
    webp_canvas,
)
from tests.pictures import (
    PNG_SIGNATURE,
    chunk,
    exif_block,
    exif_bomb,
    jpeg,
    jpeg_segment,
    photo,
    photo_jpeg,
    raw_png,
    with_exif,
)
from tests.unit.inspection.conftest import LIMITS, Inspect

DATA = Path(__file__).parents[2] / "data"
KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
ANIMATED = ("GIF", "WEBP", "PNG")


def _saved(kind: str, size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo(*size).save(buffer, kind, **options)
    return buffer.getvalue()


def _animated(kind: str, frames: int) -> bytes:
    return _saved(kind, save_all=True, append_images=[photo(60, 40, seed) for seed in range(2, frames + 1)])


# ---- What passes


@pytest.mark.parametrize("kind", KINDS)
def test_type_and_size_are_the_contents(kind: str, inspected: Inspect) -> None:
    assert inspected(_saved(kind)) == Inspected(content_type=f"image/{kind.lower()}", width=60, height=40, frames=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_upright_pictures(kind: str, orientation: int, inspected: Inspect) -> None:
    options: dict[str, Any] = {"exif": b"Exif\0\0" + exif_block(orientation)}
    if kind == "TIFF":
        options = {"tiffinfo": {274: orientation}}

    found = inspected(_saved(kind, **options))

    assert (found.width, found.height) == ((40, 60) if orientation >= 5 else (60, 40))


@pytest.mark.parametrize("kind", ANIMATED)
def test_frames_are_counted(kind: str, inspected: Inspect) -> None:
    assert inspected(_animated(kind, 5)).frames == 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_what_comes_after_the_end_does_not_matter(kind: str, inspected: Inspect) -> None:
    """Polyglots among them: only the picture is ever looked at."""
    found = inspected(_saved(kind) + b"<script>alert(1)</script>PK\x03\x04" + bytes(5000))

    assert (found.content_type, found.width, found.height, found.frames) == (f"image/{kind.lower()}", 60, 40, 1)


# ---- What is too large


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_of_pixels_holds_to_the_pixel(kind: str, inspected: Inspect) -> None:
    content = _saved(kind)

    assert inspected(content, Limits(pixels=2400)).width == 60
    with pytest.raises(TooLarge, match=r"60 × 40 pixels; 2399 in all are allowed"):
        inspected(content, Limits(pixels=2399))


@pytest.mark.parametrize("kind", ANIMATED)
def test_the_limits_of_frames_hold_to_the_frame_and_pixel(kind: str, inspected: Inspect) -> None:
    content = _animated(kind, 5)

    assert inspected(content, Limits(frames=5, total_pixels=5 * 2400)).frames == 5
    with pytest.raises(TooLarge, match="more than 4 frames"):
        inspected(content, Limits(frames=4))
    with pytest.raises(TooLarge, match=r"5 frames of 60 × 40 pixels; 11999 in all"):
        inspected(content, Limits(total_pixels=5 * 2400 - 1))


# ---- What is refused


def test_an_empty_file_is_called_empty(inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match="is empty; allowed: JPEG, PNG, WEBP, GIF, TIFF, BMP"):
        inspected(b"")


@pytest.mark.parametrize(
    "content",
    [
        b"just text",
        bytes(1000),
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        b"<!DOCTYPE html><html><body onload='alert(1)'>",
        b"%PDF-1.7\n1 0 obj",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"PK\x03\x04" + bytes(100),
        b"RIFF\x20\0\0\0WAVEfmt " + bytes(40),
        b"RIFF\x20\0\0\0AVI LIST" + bytes(40),
        b"II+\0\x08\0\0\0" + bytes(100),
        b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
        b"\xff\x0a" + bytes(100),
        *(_saved(kind) for kind in ("ICO", "PPM", "PCX", "TGA", "ICNS")),
        *((DATA / "inspection" / name).read_bytes() for name in ("ffmpeg.avif", "ffmpeg.jp2", "netpbm.eps")),
        *((DATA / "inspection" / f"imagemagick.{kind}").read_bytes() for kind in ("heic", "psd", "ico")),
    ],
)
def test_what_is_of_another_kind_is_refused_and_told_what_is_allowed(content: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match=r"not an image of an allowed format.*allowed: JPEG, PNG, WEBP, GIF, TIFF, BMP"):
        inspected(content)


@pytest.mark.parametrize(
    "disguised",
    [
        b"BM" + b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 3,
        b"II*\0<html><script>alert(1)</script></html>",
        b"MM\0*" + b"%PDF-1.7" * 20,
        b"GIF89a/*" + b"<script>" * 10 + b"*/=1;",
        b"RIFF\x20\0\0\0WEBPVP8 " + bytes(40),
        b"\xff\xd8\xff\xe0<?php phpinfo(); ?>",
        b"\x89PNG\r\n\x1a\n%PDF-1.7 1 0 obj",
    ],
)
def test_what_only_begins_like_a_picture_is_refused(disguised: bytes, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia):
        inspected(disguised)


@pytest.mark.parametrize(
    "whole",
    [
        *(_saved(kind) for kind in KINDS),
        *(_animated(kind, 3) for kind in ANIMATED),
        jpeg(photo(640, 480), progressive=True),
        (DATA / "pictures" / "pages.tif").read_bytes(),
    ],
    ids=[*KINDS, *(f"{kind} animated" for kind in ANIMATED), "progressive", "pages"],
)
def test_a_file_cut_anywhere_is_refused(whole: bytes, inspected: Inspect) -> None:
    for cut in [*(len(whole) * eighth // 8 for eighth in range(8)), len(whole) - 4, len(whole) - 1]:
        with pytest.raises(UnsupportedMedia):
            inspected(whole[:cut])


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_called_so(kind: str, inspected: Inspect) -> None:
    with pytest.raises(UnsupportedMedia, match=f"The {kind} file is cut off: its end is missing. Send the whole file."):
        inspected(_saved(kind)[:-2])


# ---- What it costs

_PNG_HEAD = raw_png(10, 10, 8, 0, b"")[:33]
_BUSY = {
    "JPEG fill": filled(b"\xff\xd8", b"\xff"),
    "JPEG junk": filled(b"\xff\xd8\xff", b"\0"),
    "JPEG zeros": filled(b"\xff\xd8\xff\xe0\0\2", b"\xff\0"),
    "JPEG segments": filled(b"\xff\xd8", jpeg_segment(0xE5, b"")),
    "JPEG restarts": filled(b"\xff\xd8", b"\xff\xd0"),
    "JPEG exif": filled(b"\xff\xd8", jpeg_segment(0xE1, b"Exif\0\0" + b"x" * 65_000)),
    "JPEG exif bomb": with_exif(photo_jpeg(16, 16), exif_bomb()),
    "PNG zeros": filled(PNG_SIGNATURE, b"\0"),
    "PNG chunks": filled(_PNG_HEAD, chunk(b"prVt")),
    "PNG texts": filled(_PNG_HEAD, metadata_bomb(b"zTXt", 1_000_000)),
    "PNG profiles": filled(_PNG_HEAD, metadata_bomb(b"iCCP", 1_000_000)),
    "PNG chunks behind": filled(raw_png(10, 10, 8, 0, b"")[:-12], chunk(b"prVt")),
    "PNG palette": _PNG_HEAD + chunk(b"PLTE", bytes(UPLOAD - 100)),
    "PNG checked chunks": filled(_PNG_HEAD, chunk(b"tRNS")),
    "PNG animations": filled(_PNG_HEAD, chunk(b"acTL", bytes(8))),
    "GIF extensions": filled(gif((9, 9), [], trailer=b""), b"\x21\xfe\0"),
    "GIF blocks": filled(gif((9, 9), [], trailer=b"\x21\xfe"), b"\1a"),
    "GIF nothing": filled(gif((9, 9), [], trailer=b""), b"\0"),
    "WebP chunks": webp(webp_canvas((9, 9)), riff_chunk(b"JUNK", b"") * ((UPLOAD - 100) // 8)),
    "WebP exifs": webp(webp_canvas((9, 9), 8), riff_chunk(b"EXIF", b"") * ((UPLOAD - 100) // 8)),
    "WebP frame": webp(webp_canvas((9, 9), 2), riff_chunk(b"ANIM", bytes(6)), riff_chunk(b"ANMF", bytes(16) + bytes(UPLOAD - 100))),
    "TIFF fields": tiff_of_many_fields(65_000),
    "TIFF circle": tiff_in_a_circle(),
    "TIFF pages": filled(b"II*\0", b"\0\0\0\0\0\0"),
    "TIFF strips": tiff(
        (1, 180_000), fields=[(278, 4, 1, 1), (273, 4, 180_000, 8), (279, 4, 180_000, 8)], pixels=b"\0\0\1\0" * 180_000
    ),
    "TIFF more strips": tiff((1, 9_000_000), fields=[(278, 4, 1, 1), (273, 4, 2_000_000, 8)], pixels=bytes(8_000_000)),
    "BMP": filled(bmp((9, 9), header_bytes=124), b"\xff"),
    "BMP header": b"BM" + b"\xff" * (UPLOAD - 2),
}


@pytest.mark.parametrize("content", _BUSY.values(), ids=_BUSY)
def test_a_header_made_to_keep_us_busy_costs_little_time(content: bytes, tmp_path: Path) -> None:
    """Of the processor: no other thread's."""
    path = tmp_path / "upload"
    path.write_bytes(content)
    started = time.thread_time()

    with suppress(UnsupportedMedia, TooLarge):
        inspect(path, LIMITS)

    assert len(content) <= UPLOAD
    assert time.thread_time() - started < 1.5


@pytest.mark.parametrize(("name", "most_bytes"), [("JPEG exif", 1 << 20), ("PNG palette", 2 << 20), ("TIFF strips", 24 << 20)])
def test_a_header_made_to_fill_our_memory_does_not(name: str, most_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(_BUSY[name])
    tracemalloc.start()
    try:
        with suppress(UnsupportedMedia, TooLarge):
            inspect(path, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < most_bytes


def test_pixels_are_never_decoded_or_inflated(monkeypatch: pytest.MonkeyPatch, inspected: Inspect) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a decoder was asked for")

    contents = [_saved(kind) for kind in KINDS] + [_animated(kind, 3) for kind in ANIMATED]
    monkeypatch.setattr(Image, "_getdecoder", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(zlib, "decompressobj", refuse)
    monkeypatch.setattr(zlib, "decompress", refuse)

    for content in contents:
        assert inspected(content).width == 60


def test_many_threads_at_once(tmp_path: Path) -> None:
    contents = [_saved(KINDS[number % len(KINDS)], (60 + number, 40)) for number in range(18)]
    widths: dict[int, int] = {}

    def run(number: int) -> None:
        path = tmp_path / str(number)
        path.write_bytes(contents[number])
        widths[number] = inspect(path, LIMITS).width

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert widths == {number: 60 + number for number in range(len(contents))}


# ---- Whatever comes


def _outcome(path: Path, limits: Limits = LIMITS) -> Inspected | UnsupportedMedia | TooLarge:
    """Anything else that comes out fails the test, a warning included."""
    try:
        return inspect(path, limits)
    except (UnsupportedMedia, TooLarge) as error:
        return error


_SEEDS = seeds()


@given(data=st.data())
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_passes_or_is_refused_and_nothing_else(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(300, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path / "upload"
    path.write_bytes(content)

    outcome = _outcome(path)

    if isinstance(outcome, Inspected):
        assert outcome.width >= 1
        assert outcome.height >= 1
        assert 1 <= outcome.frames <= LIMITS.frames
        assert outcome.width * outcome.height <= LIMITS.pixels
    else:
        assert outcome.detail.endswith(".")


def test_nothing_but_a_refusal_comes_out_of_noise(tmp_path: Path) -> None:
    dice, path = random.Random(3), tmp_path / "upload"
    refused = 0
    for _ in range(500):
        path.write_bytes(dice.choice(_SEEDS)[: dice.randrange(40)] + dice.randbytes(200))
        refused += not isinstance(_outcome(path), Inspected)
    assert refused > 490
