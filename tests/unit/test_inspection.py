"""The header check: honest files pass with their upright size, all else is refused cheaply, whatever it claims to be."""

import io
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import TooLarge, UnsupportedMedia
from common.formats import Limits
from gateway.inspection import Inspected, inspect
from tests.pictures import (
    PNG_SIGNATURE,
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
    with_exif,
    with_segments,
)

LIMITS = Limits()
UPLOAD = 10 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "upload.gif"


def _inspect(path: Path, content: bytes, limits: Limits = LIMITS) -> Inspected:
    path.write_bytes(content)
    return inspect(path, limits)


def _mpo() -> bytes:
    """As phones write them: a JPEG with another one behind it."""
    buffer = io.BytesIO()
    photo(120, 80).save(buffer, "MPO", save_all=True, append_images=[photo(60, 40)])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (photo_jpeg(120, 80), "image/jpeg"),
        (jpeg(photo(120, 80), progressive=True), "image/jpeg"),
        (jpeg(photo(120, 80).convert("L")), "image/jpeg"),
        (jpeg(photo(120, 80).convert("CMYK")), "image/jpeg"),
        (_mpo(), "image/jpeg"),
        (photo_jpeg(120, 80) + b"trailing bytes", "image/jpeg"),
        (photo_jpeg(120, 80) + bytes(5000), "image/jpeg"),
        (photo_png(120, 80), "image/png"),
        (png(photo(120, 80).convert("P")), "image/png"),
        (photo_png(120, 80) + b"trailing bytes", "image/png"),
    ],
    ids=["jpeg", "progressive", "gray", "cmyk", "mpo", "jpeg+text", "jpeg+zeros", "png", "palette", "png+text"],
)
def test_a_picture_passes_by_its_content(path: Path, content: bytes, content_type: str) -> None:
    assert _inspect(path, content) == Inspected(content_type=content_type, width=120, height=80, frames=1)


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (120, 80)), (2, (120, 80)), (4, (120, 80)), (5, (80, 120)), (8, (80, 120))])
def test_the_size_is_of_the_upright_picture(path: Path, orientation: int, size: tuple[int, int], order: str) -> None:
    exif = exif_block(orientation, order)
    rows = b"".join(b"\0" + bytes(120) for _ in range(80))
    for content in (
        with_exif(photo_jpeg(120, 80), exif),
        raw_png(120, 80, 8, 0, rows, before=chunk(b"eXIf", exif)),
        raw_png(120, 80, 8, 0, rows, after=chunk(b"eXIf", exif)),
    ):
        inspected = _inspect(path, content)
        assert (inspected.width, inspected.height) == size


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", exif_block(77), bytes(100)])
def test_broken_exif_is_ignored(path: Path, exif: bytes) -> None:
    assert _inspect(path, with_exif(photo_jpeg(120, 80), exif)).width == 120
    assert _inspect(path, raw_png(2, 1, 8, 0, b"\0\0\0", before=chunk(b"eXIf", exif))).width == 2


def _saved_as(kind: str) -> bytes:
    buffer = io.BytesIO()
    photo(60, 40).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just text",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"PK\x03\x04" + bytes(100),
        bytes(1000),
        *(_saved_as(kind) for kind in ("ICO", "PPM", "PCX", "TGA", "ICNS")),
    ],
)
def test_what_is_of_another_kind_is_refused_and_told_what_is_allowed(path: Path, content: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="allowed: JPEG, PNG"):
        _inspect(path, content)


def test_an_empty_file_is_called_empty(path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match="empty"):
        _inspect(path, b"")


def _claiming(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    content = photo_jpeg(16, 16)
    frame = content.index(b"\xff\xc0") + 5
    return content[:frame] + struct.pack(">HH", height, width) + content[frame + 4 :]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (huge_header_png(30_000, 30_000), "30000 × 30000"),
        (huge_header_png(2**31 - 1, 2**31 - 1), "2147483647 × 2147483647"),
        (_claiming(30_000, 30_000), "30000 × 30000"),
        (_claiming(65_500, 65_500), "65500 × 65500"),
        (huge_header_png(5001, 10_000), "5001 × 10000"),
    ],
)
def test_a_header_that_claims_too_many_pixels_is_refused(path: Path, content: bytes, words: str) -> None:
    with pytest.raises(TooLarge, match=words):
        _inspect(path, content)


def test_exactly_the_limit_is_allowed(path: Path) -> None:
    assert _inspect(path, photo_png(100, 50), limits=Limits(pixels=5000)).height == 50
    with pytest.raises(TooLarge):
        _inspect(path, photo_png(100, 50), limits=Limits(pixels=4999))


@pytest.mark.parametrize("content", [photo_jpeg(640, 480), jpeg(photo(640, 480), progressive=True), photo_png(320, 240)])
def test_a_file_cut_anywhere_is_refused(path: Path, content: bytes) -> None:
    for cut in [len(content) * eighth // 8 for eighth in range(1, 8)] + [len(content) - 12]:
        with pytest.raises(UnsupportedMedia):
            _inspect(path, content[:cut])


def test_a_cut_jpeg_with_a_thumbnail_is_refused(path: Path) -> None:
    content = with_exif(photo_jpeg(640, 480), exif_block(1) + photo_jpeg(16, 16))

    with pytest.raises(UnsupportedMedia, match="cut off"):
        _inspect(path, content[: len(content) // 2])


_FRAME = struct.pack(">BHHB", 8, 16, 16, 1) + b"\x01\x11\x00"


@pytest.mark.parametrize(
    "content",
    [
        PNG_SIGNATURE,
        PNG_SIGNATURE + chunk(b"IEND"),
        PNG_SIGNATURE + chunk(b"IDAT", b"x") + chunk(b"IEND"),
        PNG_SIGNATURE + chunk(b"IHDR", b"short") + chunk(b"IEND"),
        PNG_SIGNATURE + struct.pack(">I4s", 0xFFFFFFFF, b"tEXt") + b"x",
        raw_png(0, 10, 8, 0, b""),
        raw_png(10, 10, 7, 0, b""),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\0",
        b"\xff\xd8" + jpeg_segment(0xC0, _FRAME.replace(b"\x08", b"\x0c", 1)),
        b"\xff\xd8" + jpeg_segment(0xC0, _FRAME) + b"\xff\xd9",
        b"\xff\xd8\xff" + bytes(1000),
    ],
)
def test_a_malformed_header_is_refused(path: Path, content: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        _inspect(path, content)


def _filled(head: bytes, piece: bytes) -> bytes:
    return head + piece * ((UPLOAD - len(head)) // len(piece))


@pytest.mark.parametrize(
    "content",
    [
        _filled(b"\xff\xd8", b"\xff"),
        _filled(b"\xff\xd8\xff", b"\0"),
        _filled(b"\xff\xd8", jpeg_segment(0xE5, b"")),
        _filled(b"\xff\xd8", jpeg_segment(0xE1, b"Exif\0\0" + b"x" * 65_000)),
        with_exif(photo_jpeg(16, 16), exif_bomb()),
        _filled(raw_png(10, 10, 8, 0, b"")[:33], chunk(b"prVt")),
        _filled(raw_png(10, 10, 8, 0, b"")[:33], chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))),
        _filled(raw_png(10, 10, 8, 0, b"")[:33], chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_000_000)))),
        _filled(raw_png(10, 10, 8, 0, b"")[:-12], chunk(b"prVt")),
        raw_png(10, 10, 8, 0, b"\0" * 110, after=struct.pack(">I4s", 0xFFFFFFF0, b"eXIf")),
    ],
    ids=["ff", "junk", "segments", "exif", "exif bomb", "chunks", "texts", "profiles", "chunks behind", "huge exif"],
)
def test_a_hostile_header_costs_little_time_and_memory(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tracemalloc.start()
    started = time.thread_time()
    try:
        _outcome(path)
        spent, (_, peak) = time.thread_time() - started, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert spent < 2
    assert peak < 128 << 20


def _outcome(path: Path) -> Inspected | UnsupportedMedia | TooLarge:
    """Anything else that comes out fails the test, a warning included."""
    try:
        return inspect(path, LIMITS)
    except (UnsupportedMedia, TooLarge) as error:
        return error


def test_no_warning_of_the_library_comes_out(path: Path) -> None:
    twice = chunk(b"acTL", struct.pack(">II", 1, 0)) * 2

    assert _inspect(path, raw_png(2, 1, 8, 0, b"\0\0\0", before=twice)).width == 2
    assert _inspect(path, with_segments(photo_jpeg(120, 80), jpeg_segment(0xE2, b"MPF\0" + bytes(20)))).width == 120


def test_pixels_are_never_decoded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a decoder was asked for")

    contents = [with_exif(photo_jpeg(64, 48), exif_block(6)), photo_png(64, 48)]
    monkeypatch.setattr(Image, "_getdecoder", refuse)

    for content in contents:
        assert _inspect(path, content)


def test_many_threads_at_once(tmp_path: Path) -> None:
    contents = [photo_jpeg(64 + number, 48) for number in range(8)] + [photo_png(64 + number, 48) for number in range(8)]
    widths: dict[int, int] = {}

    def run(number: int) -> None:
        widths[number] = _inspect(tmp_path / str(number), contents[number]).width

    threads = [threading.Thread(target=run, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert widths == {number: 64 + number % 8 for number in range(16)}


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_passes_or_is_refused_and_nothing_else(path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(300, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)

    outcome = _outcome(path)

    assert not isinstance(outcome, Inspected) or outcome.width * outcome.height <= LIMITS.pixels


_SEEDS = (with_exif(photo_jpeg(64, 48), exif_block(6)), _mpo(), photo_png(32, 24), png(photo(32, 24).convert("P")))


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"iTXt"])
def test_metadata_of_a_png_may_be_as_large_as_they_like(path: Path, kind: bytes) -> None:
    """They are not inflated, and stripped later."""
    bomb = chunk(kind, b"a\0\0" + zlib.compress(bytes(50 << 20)))

    assert _inspect(path, raw_png(10, 10, 8, 0, b"\0" * 110, before=bomb)).width == 10
