"""The production stack's Redis user, which its secrets' script writes down, may do what the program's own command would let it."""

import re
from pathlib import Path

from common.adapters.redis.accounts import LATER, RULES

SCRIPT = (Path(__file__).parents[2] / "compose" / "secrets.sh").read_text()


def test_the_rules_are_the_commands() -> None:
    found = re.search(r'^REDIS_RULES="([^"]*)"', SCRIPT, re.MULTILINE)

    assert found is not None
    assert found[1].replace("\\\n", "").split() == [*RULES, LATER]
