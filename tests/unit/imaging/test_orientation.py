"""EXIF's orientation turns the picture upright before anything else is done; broken EXIF harms nobody."""

from pathlib import Path

import pytest
from PIL import Image

from tests.pictures import chunk, exif_block, exif_bomb, jpeg, photo_jpeg, raw_png, stored, with_exif
from tests.rendering import QUARTERS, corners, image, is_near, quarters, render


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_as_exiftool_writes_them(tmp_path: Path, kind: str, orientation: int) -> None:
    """Each file is stored so that its orientation turns it upright."""
    rendered, _ = render(tmp_path, stored(f"orientation-{orientation}.{kind}"), "resize:24")
    result = image(tmp_path, stored(f"orientation-{orientation}.{kind}"), "resize:96|format:png")

    assert (rendered.width, rendered.height) == (24, 16)
    assert result.size == (96, 64)
    assert is_near(corners(result), QUARTERS)


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_first(tmp_path: Path, orientation: int, order: str) -> None:
    """The picture is turned so that the orientation turns it upright: red, green / blue, white, 1200 × 800."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    picture = quarters(1200, 800)
    turned = picture.transpose(undo[orientation]) if orientation in undo else picture
    exif = exif_block(orientation, order)
    rows = b"".join(b"\0" + turned.crop((0, row, turned.width, row + 1)).tobytes() for row in range(turned.height))
    in_front = raw_png(*turned.size, 8, 2, rows, before=chunk(b"eXIf", exif))
    behind = raw_png(*turned.size, 8, 2, rows, after=chunk(b"eXIf", exif))

    for content in (with_exif(jpeg(turned), exif), in_front, behind):
        result = image(tmp_path, content, "resize:300")
        assert result.size == (300, 200)
        assert is_near(corners(result), QUARTERS)


@pytest.mark.parametrize(
    "exif",
    [b"", b"MM", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", exif_block(0), exif_block(9), b"\0" * 64, exif_bomb()],
    ids=["empty", "cut", "offset", "entries", "0", "9", "zeros", "bomb"],
)
def test_broken_exif_is_ignored(tmp_path: Path, exif: bytes) -> None:
    assert image(tmp_path, with_exif(photo_jpeg(120, 80), exif)).size == (800, 533)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_a_tiff_cannot_have_is_ignored(tmp_path: Path, value: int) -> None:
    content = stored("orientation-6.tif")
    entry = content.index(b"\x12\x01\x03\0\x01\0\0\0\x06\0")
    changed = content[: entry + 8] + value.to_bytes(2, "little") + content[entry + 10 :]

    assert image(tmp_path, changed, "flip").size == (32, 48)
