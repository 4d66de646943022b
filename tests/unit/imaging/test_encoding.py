"""Every output format: its pixels, its transparency, and nothing in it that anybody did not ask for."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from common.formats import Format
from tests.pictures import exif_block, linear_profile, photo, png
from tests.rendering import is_near, render

OUTPUTS = ("jpeg", "png", "webp", "gif", "tiff", "bmp")
LOSSLESS = ("png", "tiff", "bmp")
SECRET = b"SECRET-48.2082N-16.3738E"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><secret>' + SECRET + b"</secret></x:xmpmeta>"


def _as(kind: str, folder: Path, content: bytes, steps: str = "flip|flip") -> tuple[bytes, Image.Image]:
    rendered, result = render(folder, content, f"{steps}|format:{kind}")
    picture = Image.open(io.BytesIO(result))
    picture.load()
    assert rendered.content_type == f"image/{kind}"
    assert picture.format == kind.upper()
    assert (rendered.width, rendered.height) == picture.size
    assert rendered.size_bytes == len(result)
    return result, picture


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_format_shows_the_same_picture(kind: str, tmp_path: Path) -> None:
    source = photo(97, 61)

    _, picture = _as(kind, tmp_path, png(source))

    difference = ImageStat.Stat(ImageChops.difference(picture.convert("RGB"), source))
    assert max(difference.rms) <= (0 if kind in LOSSLESS else 14)


@pytest.mark.parametrize("kind", ["png", "tiff", "bmp", "gif"])
def test_gray_is_exact_where_nothing_is_lost(kind: str, tmp_path: Path) -> None:
    ramp = Image.frombytes("L", (256, 1), bytes(range(256))).resize((256, 4))

    _, picture = _as(kind, tmp_path, png(ramp), "grayscale")

    assert picture.convert("L").tobytes() == ramp.tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_quality_is_a_trade(kind: str, tmp_path: Path) -> None:
    content = png(photo(200, 150))

    sizes = [len(render(tmp_path, content, f"flip|format:{kind}|quality:{quality}")[1]) for quality in (10, 85, 100)]

    assert sizes == sorted(set(sizes))
    assert len(render(tmp_path, content, f"flip|format:{kind}")[1]) == sizes[1]


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_alpha_is_kept(kind: str, tmp_path: Path) -> None:
    source = photo(64, 48)
    source.putalpha(Image.linear_gradient("L").resize((64, 48)))

    _, picture = _as(kind, tmp_path, png(source))

    assert picture.mode == "RGBA"
    assert picture.getchannel("A").tobytes() == source.getchannel("A").tobytes()


def test_a_gif_is_transparent_where_less_than_half_is_covered(tmp_path: Path) -> None:
    source = Image.new("RGBA", (30, 10), (10, 200, 30, 255))
    source.paste((10, 200, 30, 127), (10, 0, 20, 10))
    source.paste((10, 200, 30, 128), (20, 0, 30, 10))

    _, picture = _as("gif", tmp_path, png(source))

    seen = picture.convert("RGBA")
    assert [seen.getpixel((x, 5))[3] for x in (5, 15, 25)] == [255, 0, 255]  # type: ignore[index]  # of RGBA it is four numbers
    assert is_near(seen.getpixel((25, 5)), (10, 200, 30, 255))


@pytest.mark.parametrize("kind", ["jpeg", "bmp"])
def test_alpha_is_flattened_on_white_where_there_is_none(kind: str, tmp_path: Path) -> None:
    source = Image.new("RGBA", (48, 16), (200, 0, 0, 255))
    source.paste((200, 0, 0, 128), (16, 0, 32, 16))
    source.paste((0, 0, 0, 0), (32, 0, 48, 16))

    _, picture = _as(kind, tmp_path, png(source))

    assert picture.mode == "RGB"
    seen = [picture.getpixel((x, 8)) for x in (8, 24, 40)]
    assert is_near(seen, [(200, 0, 0), (227, 127, 127), (255, 255, 255)])


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_every_format_takes_every_mode(kind: str, mode: str, tmp_path: Path) -> None:
    source = photo(33, 17).convert(mode)

    _, picture = _as(kind, tmp_path, png(source))

    assert picture.size == (33, 17)


def _with_secrets(kind: str) -> bytes:
    """GPS, XMP, comments and a profile, as far as the format can hold them."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif.get_ifd(0x8825)[29] = SECRET.decode()
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"exif": exif, "comment": SECRET, "xmp": XMP, "icc_profile": linear_profile()},
        "PNG": {"exif": exif, "pnginfo": _text(), "icc_profile": linear_profile()},
        "WEBP": {"exif": exif, "xmp": XMP, "icc_profile": linear_profile()},
        "GIF": {"comment": SECRET},
        "TIFF": {"exif": exif, "icc_profile": linear_profile()},
    }
    buffer = io.BytesIO()
    photo(40, 30).save(buffer, kind, **options[kind])
    assert SECRET in buffer.getvalue()
    return buffer.getvalue()


def _text() -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", SECRET.decode())
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_nothing_of_the_metadata_is_left(source: str, kind: str, tmp_path: Path) -> None:
    content, picture = _as(kind, tmp_path, _with_secrets(source))

    assert SECRET not in content
    for trace in (b"Exif", b"xmpmeta", b"EXIF", b"XMP ", b"ICCP", b"iCCP", b"ICC_PROFILE", b"tEXt", b"iTXt", b"zTXt", b"eXIf"):
        assert trace not in content, trace
    assert {"exif", "xmp", "icc_profile", "comment", "Comment"}.isdisjoint(picture.info)
    assert 0x8825 not in picture.getexif()


def test_an_orientation_is_applied_and_not_repeated(tmp_path: Path) -> None:
    source = photo(40, 30)
    buffer = io.BytesIO()
    source.save(buffer, "WEBP", lossless=True, exif=b"Exif\0\0" + exif_block(6))

    _, picture = _as("webp", tmp_path, buffer.getvalue())

    assert picture.size == (30, 40)
    assert "exif" not in picture.info


def test_the_format_is_the_inputs_where_none_is_asked_for(tmp_path: Path) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        buffer = io.BytesIO()
        photo(20, 10).save(buffer, kind)
        assert render(tmp_path, buffer.getvalue(), "flip")[0].content_type == Format[kind].value
