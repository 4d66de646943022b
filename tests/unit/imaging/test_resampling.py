"""The fast way for gray pictures makes what Pillow's own resize makes, to the last bit."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.pictures import photo
from worker.resampling import resampled

SIDES = st.integers(1, 90)


def noise(width: int, height: int, seed: int) -> Image.Image:
    """The hardest there is: every pixel overshoots."""
    return Image.frombytes("L", (width, height), random.Random(seed).randbytes(width * height))


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_it_is_what_pillow_makes(width: int, height: int, wanted_width: int, wanted_height: int, seed: int) -> None:
    picture, size = noise(width, height, seed), (wanted_width, wanted_height)

    assert resampled(picture, size).tobytes() == picture.resize(size, Image.Resampling.LANCZOS).tobytes()


@given(st.data(), SIDES, SIDES, st.tuples(SIDES, SIDES))
@settings(max_examples=300, deadline=None)
def test_it_is_what_pillow_makes_of_a_part(data: st.DataObject, width: int, height: int, size: tuple[int, int]) -> None:
    def side(whole: int) -> tuple[float, float]:
        low = data.draw(st.floats(0, whole - 0.5))
        return low, data.draw(st.floats(low + 0.25, whole))

    (left, right), (top, bottom) = side(width), side(height)
    picture, box = noise(width, height, 1), (left, top, right, bottom)

    assert resampled(picture, size, box).tobytes() == picture.resize(size, Image.Resampling.LANCZOS, box).tobytes()


@pytest.mark.parametrize("size", [(800, 533), (801, 1), (1, 801), (1920, 533), (800, 1281), (2400, 1601)])
def test_a_photo_too(size: tuple[int, int]) -> None:
    picture = photo(1920, 1281).convert("L")

    assert resampled(picture, size).tobytes() == picture.resize(size, Image.Resampling.LANCZOS).tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_what_is_not_gray_goes_pillows_own_way(mode: str) -> None:
    picture = photo(320, 213).convert(mode)

    assert resampled(picture, (100, 67)).tobytes() == picture.resize((100, 67), Image.Resampling.LANCZOS).tobytes()
