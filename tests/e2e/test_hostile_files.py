"""Hostile files among good ones, on the running service: each is refused, or ends and says why; the good ones never notice."""

import io
import random
import struct
import zlib
from typing import Any

from tests.e2e.stack import Stack
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import seeds
from tests.pictures import chunk, exif_bomb, huge_header_png, photo, photo_jpeg, raw_png, with_exif

CODES = ("corrupt-image", "limit-exceeded")


def _saved(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo(160, 120).save(buffer, kind, **options)
    return buffer.getvalue()


def _many_frames() -> bytes:
    """301 of them, a few bytes each."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * 301 + b";"


def _most_pixels() -> bytes:
    """49 megapixels in a file of 50 KB: within the limits, and to be rendered."""
    return raw_png(7000, 7000, 8, 0, bytes(7001 * 7000))


REFUSED = {
    "empty": b"",
    "text": b"just text",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "html": b"<!doctype html><script>alert(1)</script>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pdf": b"%PDF-1.7\n1 0 obj <<>> endobj",
    "zip": b"PK\x03\x04" + bytes(200),
    "random": random.Random(1).randbytes(5000),
    "pixels": huge_header_png(60_000, 60_000),
    "frames": _many_frames(),
    "cut png": _saved("PNG")[:-20],
    "cut webp": _saved("WEBP")[:-20],
    "cut gif": _saved("GIF")[:-20],
    "cut bmp": _saved("BMP")[:-20],
    "cut jpeg": _saved("JPEG")[:-20],
}
RENDERED = {
    "most pixels": _most_pixels(),
    "polyglot": photo_jpeg(160, 120) + b"<script>alert(1)</script>PK\x03\x04",
    "bomb in a png's text": raw_png(16, 16, 8, 0, bytes(17 * 16), before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20)))),
    "bomb in a png's profile": raw_png(
        16, 16, 8, 0, bytes(17 * 16), before=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(80 << 20)))
    ),
    "bomb in exif": with_exif(photo_jpeg(160, 120), exif_bomb()),
}


def test_hostile_files_end_and_their_neighbours_are_unharmed(stack: Stack) -> None:
    # given
    user = stack.as_user()
    processes = [process.pid for process in stack.processes()]
    dice, whole = random.Random(7), seeds()

    # when each hostile one has a good one behind it
    good, hostile, answers = [], [], {}
    broken = {f"mutated {number}": mutated(dice.choice(whole), dice, whole) for number in range(60)}
    for name, content in (REFUSED | RENDERED | broken).items():
        answer = stack.upload(user, content, "x.jpg", processing="resize:200|grayscale")
        answers[name] = answer.status_code
        if answer.status_code == 202:
            hostile.append((name, answer.json()["id"]))
        else:
            assert answer.status_code in (413, 415, 422), (name, answer.text)
            assert answer.json()["detail"]
        good.append(stack.upload(user, photo_jpeg(320, 240)).json()["id"])

    # then
    assert {name for name in REFUSED if answers[name] == 202} == set()
    for image_id in good:
        assert stack.final(user, image_id)["status"] == "completed"
    for name, image_id in hostile:
        image = stack.final(user, image_id)
        if name in RENDERED:
            assert (image["status"], image["attempts"]) == ("completed", 1), (name, image["error"])
        else:
            assert image["status"] == "completed" or image["error"]["code"] in CODES, (name, image)
    # Nobody had to be started anew.
    assert [process.pid for process in stack.processes() if process.is_running()] == processes
    assert "renderer crashed" not in stack.log()
