"""What the two Dockerfiles promise each other."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_stage(name: str) -> list[str]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    start, end = (number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[start:end]


def test_the_gateway_and_the_worker_are_built_the_same_way() -> None:
    assert build_stage("Dockerfile.api") == build_stage("Dockerfile.worker")
