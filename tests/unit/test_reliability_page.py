"""docs/reliability.md names tests that there are, and has a place for the table of a run."""

import re
from pathlib import Path

from tests.chaos.report import BEGIN, END

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_tests_that_are_named_are_there() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))

    assert named
    assert {name for name in named if not (ROOT / "tests" / "chaos" / name).exists()} == set()


def test_there_is_one_place_for_the_table_of_a_run() -> None:
    assert (PAGE.count(BEGIN), PAGE.count(END)) == (1, 1)
    assert PAGE.index(BEGIN) < PAGE.index(END)
