"""Every link of the documentation, and every runbook of an alert, leads to a file that is there and to a heading that it has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "keycloak").glob("*.md")]
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
_RUNBOOK = re.compile(r"\b(docs/[a-z]+\.md)#([a-z0-9-]+)")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(page: Path, path: str, anchor: str) -> bool:
    target = page.parent / path if path else page
    return not target.exists() or (bool(anchor) and anchor not in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page(page: Path) -> None:
    links = _LINK.findall(page.read_text())

    assert not [f"{path}#{anchor}" for path, anchor in links if leads_nowhere(page, path, anchor)]


def test_the_runbooks_of_alerts() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "observability" / "rules").glob("*.yml"))
    runbooks = set(_RUNBOOK.findall(rules))

    assert len(runbooks) > 3
    assert not [f"{path}#{anchor}" for path, anchor in runbooks if leads_nowhere(ROOT / "README.md", path, anchor)]


def test_a_wrong_link_would_be_found() -> None:
    assert leads_nowhere(ROOT / "README.md", "docs/nothing.md", "")
    assert leads_nowhere(ROOT / "README.md", "docs/security.md", "no-such-heading")
    assert not leads_nowhere(ROOT / "README.md", "docs/security.md", "answers")
