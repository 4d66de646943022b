"""docs/processing.md says what is true: its examples parse, every step is there, and its worked example works."""

import re
from pathlib import Path

import pytest
from PIL import Image

from common import processing
from common.formats import Format
from common.processing import STEPS, Filter, parse
from worker import steps

PAGE = (Path(__file__).parents[2] / "docs/processing.md").read_text(encoding="utf-8")
# The second cell of each row of the table of steps.
EXAMPLES = [
    example
    for cell in re.findall(r"^\|[^|]*\| (`[^|]+`) \| ", PAGE.partition("## Presets")[0], re.MULTILINE)
    for example in re.findall(r"`([^`]+)`", cell)
]


@pytest.mark.parametrize("example", sorted(set(EXAMPLES)))
def test_every_example_parses(example: str) -> None:
    parse(example)


def test_every_step_and_format_has_an_example() -> None:
    assert {example.partition(":")[0] for example in EXAMPLES} == {*STEPS, "format", "quality"}
    for kind in Format:
        assert f"`{kind.label}`" in PAGE


def test_the_presets_parse() -> None:
    presets = re.findall(r"^  [a-z]+: (resize\S+)$", PAGE, re.MULTILINE)

    assert [parse(preset).canonical for preset in presets] == presets
    assert len(presets) == 2


def test_the_worked_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    # given both pieces of code as they stand in the page
    line, function = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    name, parser = re.fullmatch(r'\s*"(\w+)": (\w+),\s*', line).groups()  # type: ignore[union-attr]  # else the test fails anyway
    monkeypatch.setitem(STEPS, name, vars(processing)[parser])
    monkeypatch.setattr(steps, "FUNCTIONS", dict(steps.FUNCTIONS))
    indent = re.match(r" *", function)
    assert indent
    source = re.sub(rf"^{indent[0]}", "", function, flags=re.MULTILINE)
    exec(compile(source, "docs/processing.md", "exec"), {**vars(steps), "FUNCTIONS": steps.FUNCTIONS})  # noqa: S102 - our own page

    # when
    wanted = parse(name)
    picture = steps.carried_out(wanted, Image.new("RGBA", (2, 1), (10, 20, 30, 40)), (2, 1))

    # then
    assert wanted.steps == (Filter(name=name),)
    assert picture.getpixel((0, 0)) == (245, 235, 225, 40)
