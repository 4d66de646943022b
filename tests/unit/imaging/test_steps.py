"""Each step on pixels, in every mode, and nothing hidden that comes to light."""

from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from common.processing import STEPS, Filter, parse
from tests.pictures import photo, png
from tests.rendering import BLUE, GREEN, RED, WHITE, corners, image, is_near, quarters
from worker.steps import FUNCTIONS, carried_out

BLACK = (0, 0, 0)


def _done(steps: str, picture: Image.Image) -> Image.Image:
    return carried_out(parse(steps), picture, picture.size)


def test_every_step_of_the_grammar_has_a_function() -> None:
    assert FUNCTIONS.keys() == STEPS.keys()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("rotate:90", [BLUE, RED, WHITE, GREEN]),
        ("rotate:180", [WHITE, BLUE, GREEN, RED]),
        ("rotate:270", [GREEN, WHITE, RED, BLUE]),
        ("flip", [BLUE, WHITE, RED, GREEN]),
        ("mirror", [GREEN, RED, WHITE, BLUE]),
        ("rotate:90|rotate:270", [RED, GREEN, BLUE, WHITE]),
        ("flip|rotate:90", [RED, BLUE, GREEN, WHITE]),
        ("crop:20x15+0+0", [RED] * 4),
        ("crop:20x15+20+15", [WHITE] * 4),
    ],
)
def test_which_corner_comes_where(steps: str, expected: list[tuple[int, int, int]]) -> None:
    assert corners(_done(steps, quarters(40, 30))) == expected


def test_gray_is_bt601_luma() -> None:
    gray = _done("grayscale", quarters(40, 30))

    assert (gray.mode, corners(gray)) == ("L", [76, 150, 29, 255])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(
    "steps", ["resize:7x5:fill", "resize:9", "grayscale", "rotate:90", "flip", "mirror", "blur:1", "sharpen:2", "crop:3x4+1+1"]
)
def test_every_step_takes_every_mode(mode: str, steps: str) -> None:
    picture = photo(20, 14).convert(mode)

    done = _done(steps, picture)

    assert done.size == parse(steps).steps[0].size_after(picture.size)
    assert done.mode.endswith("A") == mode.endswith("A")


@pytest.mark.parametrize("size", [(100, 40), (101, 41), (40, 100), (200, 200)])
def test_covering_a_box_cuts_off_as_much_on_either_side(size: tuple[int, int]) -> None:
    """A picture that is its own mirror image stays one."""
    picture = photo(*size)
    symmetric = Image.blend(picture, picture.transpose(Image.Transpose.ROTATE_180), 0.5)

    for steps in ("resize:30x30:fill", "resize:31x20:fill", "resize:30x30:fill:down"):
        done = _done(steps, symmetric)
        difference = ImageChops.difference(done, done.transpose(Image.Transpose.ROTATE_180))
        assert max(high for _, high in ImageStat.Stat(difference).extrema) <= 2, steps


def test_covering_a_box_without_enlarging_only_cuts() -> None:
    picture = photo(40, 30)

    assert _done("resize:100x50:fill:down", picture).tobytes() == picture.crop((0, 5, 40, 25)).tobytes()


def test_a_blur_spreads_a_point_as_far_as_a_gaussian() -> None:
    """The variance of what becomes of a white line is the square of sigma, within a tenth."""
    for sigma in (1.0, 3.0, 8.0):
        line = Image.new("L", (121, 9))
        line.paste(255, (60, 0, 61, 9))
        row = [float(level) for level in _done(f"blur:{sigma}", line).crop((0, 4, 121, 5)).tobytes()]
        variance = sum(level * (x - 60) ** 2 for x, level in enumerate(row)) / sum(row)
        assert abs(variance / sigma**2 - 1) < 0.25, sigma


def test_sharpening_widens_an_edge_and_more_of_it_more() -> None:
    edge = Image.new("L", (40, 9), 100)
    edge.paste(150, (20, 0, 40, 9))

    once, thrice = (_done(f"sharpen:{amount}", edge).crop((0, 4, 40, 5)).tobytes() for amount in (1, 3))

    assert once[0] == thrice[0] == 100
    assert once[39] == thrice[39] == 150
    assert min(thrice) < min(once) < 100
    assert max(thrice) > max(once) > 150


@pytest.mark.parametrize("steps", ["resize:10", "resize:10x10:fill", "blur:2", "sharpen:3", "resize:80", "grayscale|resize:10"])
def test_hidden_colour_does_not_bleed(steps: str, tmp_path: Path) -> None:
    """White beside fully transparent black: what can be seen of the result is white."""
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (0, 0, 20, 40))

    done = image(tmp_path, png(picture), f"{steps}|format:png").convert("RGBA")

    pixels = done.tobytes()
    for red, green, blue, alpha in zip(*(pixels[band::4] for band in range(4)), strict=True):
        assert alpha < 16 or min(red, green, blue) >= 250, (red, green, blue, alpha)
        assert alpha or (red, green, blue) == BLACK
    on_white = image(tmp_path, png(picture), f"{steps}|format:bmp").convert("RGB")
    assert min(low for low, _ in ImageStat.Stat(on_white).extrema) >= 250


def test_sharpening_leaves_alpha_alone() -> None:
    picture = photo(40, 30)
    picture.putalpha(photo(40, 30, 2).convert("L"))

    done = _done("sharpen:5", picture)

    assert done.getchannel("A").tobytes() == picture.getchannel("A").tobytes()


def test_steps_run_in_the_order_written() -> None:
    picture = quarters(40, 30)

    assert _done("crop:10x10+0+0|resize:20", picture).size == (20, 20)
    assert _done("resize:20|crop:10x10+0+0", picture).size == (10, 10)
    assert is_near(_done("rotate:90|crop:4x4+0+0", picture).getpixel((1, 1)), BLUE)
    assert Filter(name="flip") in parse("flip").steps
