"""`scripts/bench`, as a smoke test: that it works, not how fast anything is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def bench(folder: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """→ what it printed, and the rows that it wrote. No peer is installed."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--out", str(folder)],
        env=os.environ | {"IMAGE_PROCESSOR_CACHE": str(folder / "cache"), "COLUMNS": "120"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, json.loads((folder / f"{arguments[0]}.json").read_text(encoding="utf-8"))["rows"]


def test_the_engine(tmp_path: Path) -> None:
    said, rows = bench(tmp_path, "engine", "--quick")

    assert "floor is not installed; scripts/bench peers installs it" in said
    assert [(row["picture"], row["contender"], row["ratio"]) for row in rows] == [
        ("640x480.jpg", "ours", 1),
        ("640x480.png", "ours", 1),
        ("640x480.webp", "ours", 1),
    ]
    for row in rows:
        assert row["cpu_ms"] > 0
        assert row["rss_bytes"] > 1_000_000
        assert f"{row['cpu_ms']:.1f}" in said
        assert f"{row['cpu_ms']:.1f}" in (tmp_path / "engine.md").read_text(encoding="utf-8")


def test_other_steps(tmp_path: Path) -> None:
    _, rows = bench(tmp_path, "steps", "--quick")

    assert {row["steps"] for row in rows} > {"resize:800", "grayscale", "resize:400x400:fill"}
    assert all(row["cpu_ms"] > 0 for row in rows)


def test_the_pool(tmp_path: Path) -> None:
    said, rows = bench(tmp_path, "pool", "--quick")

    assert {(row["turn"], row["picture"]) for row in rows} > {
        ("pool × 1", "640x480"),
        ("pool × 2", "640x480"),
        ("stream × 2", "24 MP"),
    }
    assert all(row["per_second"] > 0 for row in rows)
    assert "together at most" in said


@pytest.mark.usefixtures("service_environment")
def test_rows_and_messages(tmp_path: Path) -> None:
    said, rows = bench(tmp_path, "scale", "--quick")

    statements = [row for row in rows if "buffers" in row]
    assert {row["what"] for row in statements} > {"status", "claim", "dispatch round", "list, first page"}
    assert {row["there"] for row in statements} == {"1,000 rows", "20,000 rows"}
    assert all(row["buffers"] > 0 for row in statements)
    assert "2,000 messages" in said
