"""The processing grammar: canonical text, sizes, and messages that point at the step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidProcessing
from common.processing import DEFAULT, MAX_SIDE, Grayscale, Processing, Resize, parse

steps = st.lists(st.one_of(st.builds(Resize, st.integers(1, MAX_SIDE)), st.just(Grayscale())), min_size=1, max_size=8)


@given(steps)
def test_the_canonical_text_parses_to_the_same(chosen: list[Resize | Grayscale]) -> None:
    processing = Processing(tuple(chosen))
    assert parse(processing.canonical) == processing


@pytest.mark.parametrize("text", [None, "", DEFAULT])
def test_the_default(text: str | None) -> None:
    assert parse(text) == Processing((Resize(800), Grayscale()))


def test_leading_zeros_are_not_canonical() -> None:
    assert parse("resize:0800").canonical == "resize:800"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("explode", "'explode': unknown step"),
        ("grayscale|", "'': unknown step"),
        ("|grayscale", "'': unknown step"),
        ("Grayscale", "'Grayscale': unknown step"),
        (" grayscale", "' grayscale': unknown step"),
        ("grayscale:1", "grayscale:1: takes no argument"),
        ("resize", "resize: takes one width"),
        ("resize:", "resize:: takes one width"),
        ("resize:8:8", "resize:8:8: takes one width"),
        ("resize:-8", "resize:-8: takes one width"),
        ("resize:8.5", "resize:8.5: takes one width"),
        ("resize:٨٠٠", "takes one width"),
        ("resize:８００", "takes one width"),
        ("resize:0", "resize:0: the width must be from 1"),
        ("resize:16385", "resize:16385: the width must be from 1 to 16384"),
        ("grayscale|resize:0", "resize:0"),
        ("resize:800\n", "takes one width"),
        ("x" * 1001, "1000 characters"),
    ],
)
def test_what_is_wrong_names_the_step(text: str, said: str) -> None:
    with pytest.raises(InvalidProcessing) as error:
        parse(text)
    assert said in error.value.detail


@given(st.text(min_size=1, max_size=50))
def test_a_text_that_is_no_processing_is_refused_and_raises_nothing_else(text: str) -> None:
    with pytest.raises(InvalidProcessing):
        parse(f"{text}|{text}:")


@pytest.mark.parametrize(
    ("size", "expected"),
    [((4000, 3000), (800, 600)), ((800, 801), (800, 801)), ((20000, 1), (800, 1)), ((1, 20), (800, 16000)), ((3, 2), (800, 533))],
)
def test_the_width_is_exact_and_the_height_keeps_the_ratio(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert parse(DEFAULT).check_size(*size, max_pixels=50_000_000) == expected


def test_a_size_that_cannot_be_made_is_refused_by_step() -> None:
    with pytest.raises(InvalidProcessing, match=r"^resize:800: would make a picture of 800 × 16000000 pixels"):
        parse(DEFAULT).check_size(1, 20_000, max_pixels=50_000_000)
    with pytest.raises(InvalidProcessing, match="the whole 1000"):
        parse("resize:100").check_size(100, 100, max_pixels=1000)
