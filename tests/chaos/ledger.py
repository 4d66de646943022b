"""What the clients of a chaos run were promised and have seen, and the judgement over it once all is healed.

Every 202 is written to a file before anything is done with it. Nothing here talks to the service: `judge` is given its rows.

lost    an accepted image without a row, or that a reader was told does not exist
stuck   not final, or not settled, by the time that the audit gave it
wrong   another end than the picture demands, other bytes, an earlier state after a later one, two ends or two images of one upload
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.samples import Sample

FINAL = ("completed", "failed")


@dataclass(slots=True, kw_only=True)
class Accepted:
    """One image, as its clients know it. `version` is the newest that any of them has seen."""

    image_id: str
    filename: str
    sample: Sample
    version: int = 0
    status: str = "uploaded"
    delete_sent: bool = False
    is_gone: bool = False
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def see(self, status: str, version: int, newest_before: int, *, was_gone: bool) -> None:
        """A reader's answer; the rest is what was known when it asked."""
        if was_gone:
            self.wrong.append(f"seen as {status} after it was deleted")
        if version < newest_before:
            self.wrong.append(f"went back: {status}, version {version}, after version {newest_before} had been seen")
        if self.status in FINAL and status in FINAL and status != self.status:
            self.wrong.append(f"two ends: {self.status}, then {status}")
        if version >= self.version:
            self.version, self.status = version, status

    def see_nothing(self, *, could_be_deleted: bool) -> None:
        """A reader was told that there is no such image."""
        if could_be_deleted:
            self.is_gone = True
        else:
            self.lost.append(f"answered 404 after it was accepted (last seen as {self.status})")


class Ledger:
    """`file`: a line of JSON for each 202, in the order they came."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8", buffering=1)
        self.accepted: dict[str, Accepted] = {}
        self.refused: Counter[str] = Counter()
        self.unanswered_reads: Counter[str] = Counter()
        self.reads = 0
        self.wrong_answers: list[str] = []
        self.repeats = 0

    def close(self) -> None:
        self._file.close()

    def accept(self, image_id: str, filename: str, sample: Sample) -> Accepted:
        """→ the image's entry: the one it has, where this answer repeats an earlier one."""
        known = self.accepted.get(image_id)
        if known is not None:
            self.repeats += 1
            return known
        self._file.write(json.dumps({"at": datetime.now(UTC).isoformat(), "id": image_id, "file": filename}) + "\n")
        entry = self.accepted[image_id] = Accepted(image_id=image_id, filename=filename, sample=sample)
        if not sample.is_accepted:
            entry.wrong.append(f"accepted, but demands to be {sample.demand}")
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the database says of an image in the end."""

    image_id: str
    filename: str
    status: str
    failure_code: str | None
    result_key: str | None
    result_sha256: str | None
    result_size: tuple[int, int] | None
    attempts: int
    deleted: bool
    is_settled: bool
    created_at: datetime
    updated_at: datetime

    @property
    def seconds(self) -> float:
        """From being accepted to being final."""
        return (self.updated_at - self.created_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Each of lost, stuck and wrong: what was found, by image id. `completed` and `failed` are of accepted images; `unpromised` are
    those that were finished though their upload had no answer. `duplicates`: files of which there is more than one image."""

    accepted: int
    lost: Mapping[str, list[str]]
    stuck: Mapping[str, list[str]]
    wrong: Mapping[str, list[str]]
    duplicates: Sequence[str]
    completed: int
    failed: Counter[str]
    deleted: int
    unpromised: int


def judge(accepted: Collection[Accepted], rows: Mapping[str, Row], wrong_answers: Sequence[str] = ()) -> Judgement:
    """`wrong_answers`: those that belong to no image."""
    lost: dict[str, list[str]] = {}
    wrong: dict[str, list[str]] = {f"answer {number}": [text] for number, text in enumerate(wrong_answers, 1)}
    promised = {entry.image_id for entry in accepted}
    for entry in accepted:
        row = rows.get(entry.image_id)
        for verdicts, found in ((lost, _lost(entry, row)), (wrong, _wrong(entry, row))):
            if found:
                verdicts[entry.image_id] = found
    present = [row for row in rows.values() if not row.deleted]
    kept = [row for row in present if row.image_id in promised]
    files = Counter(row.filename for row in present)
    return Judgement(
        accepted=len(accepted),
        lost=lost,
        stuck={image_id: [why] for image_id, row in rows.items() if (why := why_stuck(row, is_promised=image_id in promised))},
        wrong=wrong,
        duplicates=sorted(name for name, count in files.items() if count > 1),
        completed=sum(row.status == "completed" for row in kept),
        failed=Counter(row.failure_code or "" for row in kept if row.status == "failed"),
        deleted=sum(entry.delete_sent and entry.image_id not in rows for entry in accepted),
        unpromised=len(present) - len(kept),
    )


def why_stuck(row: Row, *, is_promised: bool) -> str | None:
    """None where nothing is left to be done. What nobody was promised has to end as well; but for uploads in doubt, whose
    rows are marked as deleted for a while."""
    if row.deleted:
        return "deleted, and its remains are still there" if is_promised else None
    if row.status not in FINAL:
        return f"still {row.status} after {row.attempts} attempts"
    return None if row.is_settled else f"{row.status}, and still to be seen to: is its dead letter safe?"


def _lost(entry: Accepted, row: Row | None) -> list[str]:
    is_missing = row is None and not entry.delete_sent
    return [*entry.lost, *(["its row is gone, and nobody deleted it"] if is_missing else [])]


def _wrong(entry: Accepted, row: Row | None) -> list[str]:
    found = list(entry.wrong)
    if row is None or row.deleted:
        return found
    if entry.is_gone:
        found.append("answered 404, and its row is there")
    if row.status in FINAL and not _is_as_demanded(entry.sample, row):
        end = f"{row.status}, {row.failure_code or row.result_size} after {row.attempts} attempts"
        found.append(f"{entry.sample.name} demands: {entry.sample.demand}; it is {end}")
    if entry.status in FINAL and row.status != entry.status:
        found.append(f"was seen as {entry.status}, and is {row.status}")
    return found


def _is_as_demanded(sample: Sample, row: Row) -> bool:
    if sample.result is None:
        return row.status == "failed" and row.failure_code in sample.codes
    wanted = sample.result
    return (row.status, row.result_sha256, row.result_size) == ("completed", wanted.sha256, (wanted.width, wanted.height))
