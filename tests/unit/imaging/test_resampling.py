"""The fast way for gray pictures makes what Pillow's own resize makes of the picture laid on its side, to the last bit."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from common.processing import Size
from tests.pictures import photo
from worker.resampling import Box, Gray, resampled

SIDES = st.integers(1, 90)


def noise(width: int, height: int, seed: int) -> Image.Image:
    """The hardest there is: every pixel overshoots."""
    return Image.frombytes("L", (width, height), random.Random(seed).randbytes(width * height))


def columns_first(picture: Image.Image, size: Size, box: Box | None = None) -> bytes:
    left, top, right, bottom = box or (0, 0, *picture.size)
    lying = picture.transpose(Image.Transpose.TRANSPOSE)
    resized = lying.resize((size[1], size[0]), Image.Resampling.LANCZOS, (top, left, bottom, right))
    return resized.transpose(Image.Transpose.TRANSPOSE).tobytes()


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_it_is_what_pillow_makes(width: int, height: int, wanted_width: int, wanted_height: int, seed: int) -> None:
    picture, size = noise(width, height, seed), (wanted_width, wanted_height)

    assert resampled(picture, size).tobytes() == columns_first(picture, size)


@given(st.data(), SIDES, SIDES, st.tuples(SIDES, SIDES))
@settings(max_examples=300, deadline=None)
def test_it_is_what_pillow_makes_of_a_part(data: st.DataObject, width: int, height: int, size: tuple[int, int]) -> None:
    def side(whole: int) -> tuple[float, float]:
        low = data.draw(st.floats(0, whole - 0.5))
        return low, data.draw(st.floats(low + 0.25, whole))

    (left, right), (top, bottom) = side(width), side(height)
    picture, box = noise(width, height, 1), (left, top, right, bottom)

    assert resampled(picture, size, box).tobytes() == columns_first(picture, size, box)


@pytest.mark.parametrize("size", [(800, 533), (801, 1), (1, 801), (1920, 533), (800, 1281), (2400, 1601)])
def test_of_a_photo_it_is_within_two_levels_of_rows_first(size: tuple[int, int]) -> None:
    picture = photo(1920, 1281).convert("L")

    ours, pillows = resampled(picture, size), picture.resize(size, Image.Resampling.LANCZOS)

    assert ours.tobytes() == columns_first(picture, size)
    assert not any(ImageChops.difference(ours, pillows).histogram()[3:])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_what_has_its_size_already_is_left_alone(mode: str) -> None:
    picture = photo(321, 213).convert(mode)

    assert resampled(picture, (321, 213)) is picture


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_what_is_not_gray_goes_pillows_own_way(mode: str) -> None:
    picture = photo(320, 213).convert(mode)

    assert resampled(picture, (100, 67)).tobytes() == picture.resize((100, 67), Image.Resampling.LANCZOS).tobytes()


def test_a_blank_shows_what_is_drawn_on_it_whatever_its_width() -> None:
    for width in (7, 8):
        gray, picture = Gray.blank((width, 5)), noise(width, 5, 1)
        gray.image.im.paste(picture.im, (0, 0, width, 5))

        assert gray.image.tobytes() == picture.tobytes()
        assert gray.resampled((3, 2), (0, 0, width, 5)).tobytes() == columns_first(picture, (3, 2))
