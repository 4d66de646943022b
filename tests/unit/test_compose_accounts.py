"""The production stack's passwords: who gets which when one is replaced or an older version had made them; and that its Redis user,
which their script writes down, may do what the program's own command would let it."""

import re
import shutil
import subprocess
from pathlib import Path

from common.adapters.redis.accounts import LATER, RULES

SCRIPT = (Path(__file__).parents[2] / "compose" / "secrets.sh").read_text()


def test_the_rules_are_the_commands() -> None:
    found = re.search(r'^REDIS_RULES="([^"]*)"', SCRIPT, re.MULTILINE)

    assert found is not None
    assert found[1].replace("\\\n", "").split() == [*RULES, LATER]


def made(folder: Path) -> dict[str, str]:
    """The script's `make`, with these folders for its own. → the passwords."""
    for service in re.findall(r"/for/([a-z]+)/", SCRIPT):
        (folder / "for" / service).mkdir(parents=True, exist_ok=True)
    (folder / "secrets").mkdir(exist_ok=True)
    script = re.sub(r"/(for|secrets)\b", rf"{folder}/\1", SCRIPT)
    subprocess.run(["sh", "-s", "make"], input=script, text=True, check=True, timeout=30)
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def test_an_owner_without_a_password_is_given_a_new_one_and_nobody_elses(tmp_path: Path) -> None:
    before = made(tmp_path)

    (tmp_path / "secrets" / "owner_database_password").unlink()
    after = made(tmp_path)

    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"owner_database_password"}
    assert after["owner_database_password"] not in before.values()


def test_what_an_older_version_has_made_goes_on_as_the_owners(tmp_path: Path) -> None:
    # given one whose programs owned the database, with one password
    before = made(tmp_path)
    (tmp_path / "secrets" / "owner_database_password").unlink()
    shutil.rmtree(tmp_path / "for" / "migrate")

    after = made(tmp_path)

    assert after["owner_database_password"] == before["app_database_password"]
    assert after["app_database_password"] not in before.values()
