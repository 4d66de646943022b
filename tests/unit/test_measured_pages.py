"""What benchmarks write for people: Markdown, and the pages that it is put into."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from bench.results import fill, show

PAGE = (
    "# Speed\n\n<!-- bench: engine -->\nold\n\n| figures |\n<!-- end -->\n\nbetween\n\n<!-- bench: pool -->\nof old\n<!-- end -->\n"
)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    table = Table("steps", title="CPU ms", caption="one thread")
    table.add_column("a picture", justify="right")
    table.add_row("resize:800|grayscale", "1.5")
    show(Console(quiet=True), tmp_path, "engine", [table, "A sentence."])
    (tmp_path / "engine.json").write_text(json.dumps({"at": "2026-11-23T22:30:25.5+00:00", "rows": []}))
    return tmp_path


def test_tables_are_written_as_markdown(measured: Path) -> None:
    assert (measured / "engine.md").read_text() == (
        "**CPU ms**\n\n| steps | a picture |\n| --- | ---: |\n| resize:800\\|grayscale | 1.5 |\n\none thread\n\nA sentence.\n"
    )


def test_a_page_gets_what_was_measured_and_keeps_the_rest(measured: Path) -> None:
    page = measured / "page.md"
    page.write_text(PAGE)

    filled = fill(page, measured)

    assert filled == ["engine"]
    assert page.read_text() == PAGE.replace(
        "old\n\n| figures |\n", (measured / "engine.md").read_text() + "\nMeasured 2026-11-23T22:30Z.\n"
    )


def test_it_can_be_filled_again(measured: Path) -> None:
    page = measured / "page.md"
    page.write_text(PAGE)
    fill(page, measured)
    once = page.read_text()

    fill(page, measured)

    assert page.read_text() == once
