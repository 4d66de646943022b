"""The processing grammar: canonical text, sizes, presets, and messages that point at the step."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidProcessing
from common.formats import Format, Limits
from common.processing import DEFAULT, MAX_SIDE, STEPS, Crop, Filter, Fit, Processing, Resize, Rotate, Size, Step, parse, resolve

LIMITS = Limits()
side = st.integers(1, MAX_SIDE)
boxes = st.builds(Resize, width=side, height=side, fit=st.sampled_from(Fit), down=st.booleans())
steps: st.SearchStrategy[Step] = st.one_of(
    boxes,
    st.builds(Resize, width=side, down=st.booleans()),
    st.builds(Resize, height=side, down=st.booleans()),
    st.builds(Crop, width=side, height=side, x=st.integers(0, 999_999_999), y=st.integers(0, 999_999_999)),
    st.builds(Rotate, degrees=st.sampled_from((90, 180, 270))),
    st.builds(Filter, name=st.sampled_from(("grayscale", "flip", "mirror"))),
    st.builds(Filter, name=st.just("blur"), amount=st.decimals("0.1", "100", places=3)),
    st.builds(Filter, name=st.just("sharpen"), amount=st.decimals("0.1", "10", places=3)),
)
processings = st.builds(
    Processing,
    steps=st.lists(steps, min_size=1, max_size=8).map(tuple),
    format=st.none() | st.sampled_from(Format),
    quality=st.none() | st.integers(1, 100),
)


@given(processings)
def test_the_canonical_text_parses_to_the_same(processing: Processing) -> None:
    assert parse(processing.canonical) == processing
    assert parse(processing.canonical).canonical == processing.canonical


@pytest.mark.parametrize("text", [None, "", DEFAULT])
def test_the_default(text: str | None) -> None:
    assert parse(text) == Processing(steps=(Resize(width=800), Filter(name="grayscale")))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("resize:0800", "resize:800"),
        ("resize:x0600", "resize:x600"),
        ("resize:800x600:fit", "resize:800x600"),
        ("resize:800x600:fit:down", "resize:800x600:down"),
        ("resize:800:down", "resize:800:down"),
        ("blur:01.50", "blur:1.5"),
        ("blur:100.000", "blur:100"),
        ("sharpen", "sharpen:1"),
        ("quality:050|resize:8|format:webp|flip", "resize:8|flip|format:webp|quality:50"),
        ("format:png", "format:png"),
        ("crop:010x020+00+03", "crop:10x20+0+3"),
    ],
)
def test_one_text_for_one_meaning(text: str, canonical: str) -> None:
    assert parse(text).canonical == canonical


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("explode", "explode: unknown step"),
        ("grayscale|", "step 2: is empty"),
        ("|grayscale", "step 1: is empty"),
        ("Grayscale", "Grayscale: unknown step"),
        (" grayscale", " grayscale: unknown step"),
        ("grayscale:1", "grayscale:1: takes no argument"),
        ("flip:", "flip:: takes no argument"),
        ("resize", "resize: takes a width"),
        ("resize:", "resize:: takes a width"),
        ("resize:x", "resize:x: takes a width"),
        ("resize:8x", "resize:8x: takes a width"),
        ("resize:8:8", "resize:8:8: '8' does not go with one side"),
        ("resize:8:fill", "resize:8:fill: 'fill' does not go with one side"),
        ("resize:8x8:down:fill", "after the box may come fit, fill or stretch, and then down"),
        ("resize:8x8:fill:fit", "after the box may come"),
        ("resize:8x8:cover", "after the box may come"),
        ("resize:-8", "resize:-8: takes a width"),
        ("resize:8.5", "resize:8.5: takes a width"),
        ("resize:٨٠٠", "takes a width"),
        ("resize:８００", "takes a width"),
        ("resize:0", "resize:0: the width must be from 1"),
        ("resize:5x0", "resize:5x0: the height must be from 1"),
        ("resize:16385", "resize:16385: the width must be from 1 to 16384"),
        ("grayscale|resize:0", "resize:0"),
        ("resize:800\n", "resize:800?: takes a width"),
        ("rotate", "rotate: takes 90"),
        ("rotate:45", "rotate:45: takes 90"),
        ("rotate:-90", "rotate:-90: takes 90"),
        ("blur", "blur: takes a sigma"),
        ("blur:0", "blur:0: takes a sigma in pixels from 0.1 to 100"),
        ("blur:1e1", "blur:1e1: takes a sigma"),
        ("blur:nan", "blur:nan: takes a sigma"),
        ("sharpen:11", "sharpen:11: takes an amount from 0.1 to 10"),
        ("crop:1x1", "crop:1x1: takes an area"),
        ("crop:0x1+0+0", "crop:0x1+0+0: the width must be"),
        ("crop:1x1+-1+0", "takes an area"),
        ("format:jpg", "format:jpg: takes one of jpeg, png"),
        ("format", "format: takes one of"),
        ("format:png|format:png", "the format may be given once"),
        ("quality:0", "quality:0: the quality must be from 1 to 100"),
        ("quality:101", "quality:101: the quality must be"),
        ("quality:1|quality:1", "the quality may be given once"),
        ("x" * 1001, "1000 characters"),
        ("|".join(["flip"] * 21), "20 steps"),
        ("@thumb", "@thumb: unknown step"),
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


def _size_after(text: str, size: Size, given: Format = Format.JPEG) -> Size:
    return parse(text).check_size(given, size, 1, LIMITS)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        (DEFAULT, (4000, 3000), (800, 600)),
        (DEFAULT, (800, 801), (800, 801)),
        (DEFAULT, (20000, 1), (800, 1)),
        (DEFAULT, (1, 20), (800, 16000)),
        (DEFAULT, (3, 2), (800, 533)),
        (DEFAULT, (1600, 5), (800, 3)),  # half up
        ("resize:x300", (400, 600), (200, 300)),
        ("resize:800:down", (400, 300), (400, 300)),
        ("resize:x100:down", (400, 300), (133, 100)),
        ("resize:100x100", (400, 300), (100, 75)),
        ("resize:100x100", (300, 400), (75, 100)),
        ("resize:100x100", (10, 5), (100, 50)),
        ("resize:100x100:down", (10, 5), (10, 5)),
        ("resize:100x100:fill", (400, 300), (100, 100)),
        ("resize:100x50:fill:down", (40, 30), (40, 20)),
        ("resize:100x50:fill:down", (4000, 30), (60, 30)),
        ("resize:100x50:fill:down", (400, 300), (100, 50)),
        ("resize:100x50:stretch", (4, 300), (100, 50)),
        ("resize:100x50:stretch:down", (4, 300), (4, 50)),
        ("rotate:90", (4, 3), (3, 4)),
        ("rotate:180", (4, 3), (4, 3)),
        ("crop:2x1+1+2", (4, 3), (2, 1)),
        ("rotate:270|resize:8|blur:1|flip|mirror|sharpen", (4, 3), (8, 11)),
        ("format:png", (5, 7), (5, 7)),
    ],
)
def test_the_size_that_comes_out(text: str, size: Size, expected: Size) -> None:
    assert _size_after(text, size) == expected


@given(boxes, st.tuples(side, side))
def test_no_box_makes_more_than_was_asked_for(resize: Resize, size: Size) -> None:
    assert resize.width is not None
    assert resize.height is not None
    width, height = resize.size_after(size)
    assert 1 <= width <= resize.width
    assert 1 <= height <= resize.height
    if resize.down:
        assert width <= size[0]
        assert height <= size[1]
    elif resize.fit is Fit.FIT:
        assert width == resize.width or height == resize.height
    else:
        assert (width, height) == (resize.width, resize.height)


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        (DEFAULT, (1, 20_000), r"^resize:800: would make a picture of 800 × 16000000 pixels"),
        ("resize:10|crop:11x1+0+0", (100, 100), r"^crop:11x1\+0\+0: reaches beyond the picture, which has 10 × 10 pixels here"),
        ("crop:1x1+0+100", (100, 100), r"^crop:1x1\+0\+100: reaches beyond"),
        ("resize:16384x16384:stretch", (1, 1), "the whole 50000000"),
        ("resize:16384|format:webp", (100, 1), r"^format:webp: a side may have 16383 pixels"),
    ],
)
def test_a_size_that_cannot_be_made_is_refused_by_step(text: str, size: Size, said: str) -> None:
    with pytest.raises(InvalidProcessing, match=said):
        _size_after(text, size)


def test_all_frames_count_where_the_output_keeps_them() -> None:
    frames = 100
    assert parse("resize:2000|format:jpeg").check_size(Format.GIF, (1000, 1000), frames, LIMITS) == (2000, 2000)
    with pytest.raises(InvalidProcessing, match=r"^resize:2000: would make 100 frames of 2000 × 2000 pixels"):
        parse("resize:2000").check_size(Format.GIF, (1000, 1000), frames, LIMITS)


THUMB = parse("resize:100x100:fill")


def test_a_preset_stands_for_its_processing() -> None:
    assert resolve("@thumb", {"thumb": THUMB}, presets_only=True) == THUMB
    assert resolve("resize:5", {"thumb": THUMB}, presets_only=False) == Processing(steps=(Resize(width=5),))
    assert resolve(None, {"thumb": THUMB}, presets_only=True) == parse(DEFAULT)


@pytest.mark.parametrize(
    ("text", "presets_only", "said"),
    [
        ("@", False, "@: unknown preset; the presets are: @thumb"),
        ("@Thumb", False, "@Thumb: unknown preset"),
        ("@thumb|flip", False, "unknown preset"),
        ("resize:5", True, "resize:5: only presets are allowed here: @thumb"),
    ],
)
def test_an_unknown_preset_names_those_there_are(text: str, presets_only: bool, said: str) -> None:
    with pytest.raises(InvalidProcessing) as error:
        resolve(text, {"thumb": THUMB}, presets_only=presets_only)
    assert said in error.value.detail


def test_a_number_is_kept_as_it_was_meant() -> None:
    assert parse("blur:0.125").steps == (Filter(name="blur", amount=Decimal("0.125")),)
    assert set(STEPS) == {"resize", "grayscale", "rotate", "flip", "mirror", "blur", "sharpen", "crop"}
