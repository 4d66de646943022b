"""JPEG of every sampling and kind of scans, at full and at reduced size, and every one that lacks a part."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from common import processing
from common.formats import Limits
from common.images import FailureCode
from tests.pictures import exif_block, jpeg, jpeg_segment, photo, photo_jpeg, stored, with_exif, with_segments
from tests.rendering import QUARTERS, RED, corners, image, is_near, refusal
from worker.decoding import damage_is_refused, decode
from worker.decoding.jpeg_layout import read_layout
from worker.steps import carried_out

# As cjpeg makes them.
KINDS = [
    *(f"sample-{sampling}" for sampling in ("1x1", "2x1", "1x2", "2x2", "4x1", "3x1", "2x2,1x2,2x1")),
    "progressive", "restarts", "progressive-restarts", "scan-per-component", "rgb",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", ["resize:96", "resize:12"])
def test_every_sampling_and_kind_of_scans(tmp_path: Path, kind: str, steps: str) -> None:
    result = image(tmp_path, stored(f"{kind}.jpg"), f"{steps}|format:png")

    assert is_near(corners(result), QUARTERS, by=8)


def test_gray_whose_blocks_are_sampled_twice_each_way(tmp_path: Path) -> None:
    result = image(tmp_path, stored("ramp8-gray.jpg"), "grayscale|format:png")

    assert list(result.tobytes()[:256]) == pytest.approx(range(256), abs=3)


def test_of_several_pictures_in_one_file_the_first(tmp_path: Path) -> None:
    # given an MPO by Pillow
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), RED).save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), "blue")])
    assert Image.open(buffer).format == "MPO"

    result = image(tmp_path, buffer.getvalue(), "resize:32")

    assert (result.format, result.size) == ("JPEG", (32, 24))
    assert is_near(result.getpixel((16, 12)), RED)


# Decoding at a reduced size


@pytest.mark.parametrize(
    "steps",
    ["resize:100|grayscale", "grayscale|resize:100", "resize:100", "resize:x90", "resize:120x100", "resize:100x100:fill",
     "resize:70x150:fill:down", "resize:80x120:stretch", "resize:x3|grayscale", "resize:100:down|flip"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("size", "orientation", "options"),
    [
        ((1600, 1064), 1, {}),
        ((1605, 1067), 3, {"subsampling": 0}),
        ((1605, 1067), 6, {"progressive": True}),
        ((821, 1999), 7, {}),
        ((1111, 833), 8, {"keep_rgb": True}),
    ],
    ids=str,
)
def test_decoding_at_a_reduced_size_equals_the_plain_way(
    size: tuple[int, int], orientation: int, options: dict[str, Any], steps: str
) -> None:
    """Within a mean of half a level and a PSNR of 50 dB."""
    # given
    content = with_exif(jpeg(photo(*size), **options), exif_block(orientation))
    wanted = processing.parse(steps)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    plain = carried_out(wanted, upright, upright.size)

    # when
    decoded = decode(content, wanted, Limits())
    frame = next(decoded.frames).image
    reduced = carried_out(wanted, frame, decoded.size)

    # then
    assert frame.size != upright.size
    assert (reduced.mode, reduced.size, decoded.size) == (plain.mode, plain.size, upright.size)
    difference = ImageStat.Stat(ImageChops.difference(reduced, plain))
    assert max(difference.mean) < 0.5
    assert max(difference.rms) < 255 / 10 ** (50 / 20)


@pytest.mark.parametrize("steps", ["crop:300x200+1+1|resize:50", "blur:1|resize:50", "rotate:90|resize:50"])
def test_what_comes_after_other_steps_is_decoded_as_it_is(steps: str) -> None:
    decoded = decode(jpeg(photo(401, 301)), processing.parse(steps), Limits())

    assert next(decoded.frames).image.size == (401, 301)


def test_sharpening_sees_colours_before_gray_does() -> None:
    for steps, mode in (("sharpen|grayscale", "RGB"), ("blur:1|grayscale", "L"), ("grayscale|sharpen", "L")):
        assert next(decode(jpeg(photo(64, 48)), processing.parse(steps), Limits()).frames).image.mode == mode


# Never half a picture


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_that_was_given_an_end_again_is_refused(tmp_path: Path, kind: str) -> None:
    """Up to the last bytes: a few blocks of 8 × 8 samples may be lost there without notice."""
    content = stored(f"{kind}.jpg")
    for cut in range(content.index(b"\xff\xda") + 14, len(content) - 16, 3):
        refused = refusal(tmp_path, content[:cut] + b"\xff\xd9", "grayscale")
        assert refused.failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 3},
        {"progressive": True, "restart_marker_rows": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("steps", ["resize:100|grayscale", "resize:300"])
def test_photos_that_lack_a_part_are_refused(tmp_path: Path, options: dict[str, Any], steps: str) -> None:
    content = jpeg(photo(640, 480), **options)
    for eighth in range(1, 32):
        refused = refusal(tmp_path, content[: len(content) * eighth // 32] + b"\xff\xd9", steps)
        assert refused.failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("kind", ["progressive", "progressive-restarts", "scan-per-component"])
def test_a_missing_scan_is_missed(tmp_path: Path, kind: str) -> None:
    content = stored(f"{kind}.jpg")
    scans = [position for position in range(len(content)) if content[position : position + 2] == b"\xff\xda"]
    assert len(scans) > 2
    for start, end in zip(scans[1:], [*scans[2:], len(content) - 2], strict=True):
        assert refusal(tmp_path, content[:start] + content[end:]).failure_code is FailureCode.CORRUPT_IMAGE


def test_a_missing_stretch_between_restarts_is_missed(tmp_path: Path) -> None:
    content = jpeg(photo(640, 480), restart_marker_rows=1)
    third, fifth = content.index(b"\xff\xd2"), content.index(b"\xff\xd4")
    assert refusal(tmp_path, content[:third] + content[fifth:]).failure_code is FailureCode.CORRUPT_IMAGE
    assert refusal(tmp_path, content[: third - 40] + content[third:]).failure_code is FailureCode.CORRUPT_IMAGE


def test_more_scans_than_there_is_anything_to_tell_are_refused(tmp_path: Path) -> None:
    content = stored("progressive.jpg")
    first, second = content.index(b"\xff\xda"), content.index(b"\xff\xc4", content.index(b"\xff\xda"))
    again = content[first:second] * 300
    assert image(tmp_path, content[:second] + again + content[second:], "grayscale").size == (48, 32)
    assert refusal(tmp_path, content[:second] + 2 * again + content[second:]).failure_code is FailureCode.CORRUPT_IMAGE


@pytest.mark.parametrize("level", [127, 128])
def test_a_gray_picture_is_not_taken_for_a_cut_one(tmp_path: Path, level: int) -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        for picture in (Image.new("L", (333, 222), level), Image.new("RGB", (333, 222), (level,) * 3)):
            content = jpeg(picture, **options)
            thumbnailed = with_exif(content, exif_block(1) + jpeg(Image.new("L", (16, 16), 128)))
            for whole in (content, thumbnailed, content + b"trailing \xff\xda\xff\xd9 bytes"):
                assert image(tmp_path, whole).size == (800, 533)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8), (9, 17), (33, 15), (250, 1)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"optimize": True}], ids=str)
def test_whole_pictures_are_taken_for_whole_ones(tmp_path: Path, size: tuple[int, int], options: dict[str, Any]) -> None:
    for quality in (1, 50, 100):
        for subsampling in (0, 1, 2):
            content = jpeg(photo(*size), quality=quality, subsampling=subsampling, **options)
            assert image(tmp_path, content, "flip").size == size


def test_bytes_between_the_segments_are_passed_over(tmp_path: Path) -> None:
    content = photo_jpeg(64, 48)
    tables = content.index(b"\xff\xdb")
    for filling in (b"\xff\xff\xff", b"\0\0junk", b"\xff\0"):
        assert image(tmp_path, content[:tables] + filling + content[tables:], "grayscale").size == (64, 48)
    assert image(tmp_path, content[:-2] + b"\xff\xff\xff\xd9", "grayscale").size == (64, 48)


def test_a_comment_may_hold_markers(tmp_path: Path) -> None:
    misleading = jpeg_segment(0xFE, b"\xff\xda\xff\xd9\xff\xc9")
    assert image(tmp_path, with_segments(photo_jpeg(64, 48), misleading), "grayscale").size == (64, 48)


def test_the_coefficients_of_a_progressive_one_are_counted() -> None:
    assert read_layout(stored("progressive.jpg")).coefficient_bytes == 3 * 2 * 6 * 64 * 2
    assert not read_layout(stored("sample-2x2.jpg")).is_in_several_scans


def test_running_out_of_memory_is_no_damage() -> None:
    """libjpeg keeps all coefficients of a progressive picture, and says "broken" where it cannot."""
    # given a picture that takes 150 MB so, and a process that may take 100 MB more than it has
    picture = jpeg(Image.new("RGB", (7000, 7000)), progressive=True)
    program = """
import resource, sys
from worker import child
from worker.decoding import damage_is_refused, decode
from common.formats import Limits
from common.processing import parse
child._load_decoders()
data = sys.stdin.buffer.read()
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    with damage_is_refused(data):
        decode(data, parse("resize:800|grayscale"), Limits())
except MemoryError:
    print("out of memory")
"""

    # when
    ended = subprocess.run([sys.executable, "-c", program], input=picture, capture_output=True, check=False)

    # then
    assert ended.stdout == b"out of memory\n", ended.stderr


def test_a_decoder_that_is_not_installed_is_no_damage() -> None:
    with pytest.raises(ImportError), damage_is_refused(jpeg(Image.new("RGB", (8, 8)))):
        raise ModuleNotFoundError("No module named 'decoder'")
