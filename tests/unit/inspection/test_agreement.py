"""The header check and the worker's decoders, which read the same headers each in their own way, see the same picture."""

import random
from pathlib import Path

import pytest

from common import processing
from common.errors import PictureRefused, TooLarge, UnsupportedMedia
from common.formats import Limits
from gateway.inspection import inspect
from tests.fuzz.mutations import mutated
from tests.fuzz.seeds import seeds
from worker.decoding import damage_is_refused, decode

DATA = Path(__file__).parents[2] / "data"
# Small enough that decoding what passes takes no time.
LIMITS = Limits(pixels=200_000, frames=20, total_pixels=800_000)
# Such a processing that the whole of every frame is decoded.
WHOLE = processing.parse("rotate:180|format:png")
MUTATED = 1000
_FILES = [path for folder in ("pictures", "inspection") for path in sorted((DATA / folder).iterdir()) if path.suffix != ".md"]
Seen = tuple[tuple[int, int], int]
"""The upright picture's size, and how many frames."""


def _by_gateway(path: Path) -> Seen | None:
    try:
        found = inspect(path, LIMITS)
    except (UnsupportedMedia, TooLarge):
        return None
    return (found.width, found.height), found.frames


def _by_worker(content: bytes) -> Seen | None:
    try:
        with damage_is_refused(content):
            decoded = decode(content, WHOLE, LIMITS)
            return decoded.size, sum(1 for _ in decoded.frames)
    except (PictureRefused, MemoryError):
        return None


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_of_what_other_programs_made_the_same_is_taken(path: Path) -> None:
    assert _by_gateway(path) == _by_worker(path.read_bytes())


def test_of_what_is_broken_the_same_is_seen(tmp_path: Path) -> None:
    # given
    dice, whole, path = random.Random(5), seeds(), tmp_path / "upload"
    seen_by_both, differences = 0, []

    # when
    for number in range(MUTATED):
        content = mutated(dice.choice(whole), dice, whole)
        path.write_bytes(content)
        ours = _by_gateway(path)
        if ours and (theirs := _by_worker(content)):
            seen_by_both += 1
            differences += [(number, ours, theirs)] if ours != theirs else []

    # then
    assert differences == []
    assert seen_by_both > MUTATED // 10
