"""The outcome of a chaos run, as a table on the terminal, as JSON and as markdown; and the exit code that follows from it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.chaos.ledger import Judgement

SHOWN = 20
# A page's place for a report.
BEGIN, END = "<!-- chaos: the table of a run, by scripts/chaos --report -->", "<!-- chaos: end -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """From being accepted to being completed, in seconds. None where there were no images."""

    images: int
    p50: float | None
    p99: float | None
    longest: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        ordered = sorted(seconds)

        def at(share: float) -> float | None:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else None

        return cls(images=len(ordered), p50=at(0.5), p99=at(0.99), longest=at(1.0))

    def __str__(self) -> str:
        if self.p50 is None:
            return "no images"
        return f"p50 {self.p50} s, p99 {self.p99} s, longest {self.longest} s ({self.images} images)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`leftovers`: what should be nothing, or as at the start, once all is over; `logs`: the folder of all processes' logs."""

    seed: int
    minutes: float
    rate: float
    workers: int
    versions: Mapping[str, str]
    uploads: int
    judgement: Judgement
    refused: Counter[str]
    repeats: int
    reads: int
    unanswered_reads: Counter[str]
    longest_seconds: float
    disturbed: Times
    undisturbed: Times
    faults: Counter[str]
    faults_failed: Sequence[str]
    leftovers: Mapping[str, str]
    logs: Path
    is_complete: bool = True

    @property
    def accepted(self) -> int:
        return self.judgement.accepted

    @property
    def exit_code(self) -> int:
        """0 only where nothing at all was lost, stuck or wrong."""
        found = self.judgement
        return int(bool(found.lost or found.stuck or found.wrong))

    def rows(self) -> list[tuple[str, str]]:
        found = self.judgement
        return [
            ("uploads sent", f"{self.uploads:,}"),
            ("accepted (202)", f"{self.accepted:,}, and {self.repeats} answers that repeated one"),
            ("refused", _counted(self.refused)),
            ("completed", f"{found.completed:,}"),
            ("failed", _counted(found.failed)),
            ("deleted by their clients", str(found.deleted)),
            ("finished though their upload had no answer", str(found.unpromised)),
            ("lost", str(len(found.lost))),
            ("stuck", str(len(found.stuck))),
            ("wrong", str(len(found.wrong))),
            ("duplicates visible", str(len(found.duplicates))),
            ("reads", f"{self.reads:,}; not answered: {_counted(self.unanswered_reads)}"),
            ("longest from accepted to final", f"{self.longest_seconds:.1f} s"),
            ("accepted to completed, no fault near", str(self.undisturbed)),
            ("accepted to completed, with faults", str(self.disturbed)),
            ("faults", f"{self.faults.total()} of {len(self.faults)} kinds"),
            *((f"left over: {name}", text) for name, text in self.leftovers.items()),
        ]

    def problems(self) -> list[str]:
        """Which images, and what is the matter with each."""
        found = self.judgement
        lines = [
            f"{verdict}: {image_id}: {'; '.join(reasons)}"
            for verdict, images in (("lost", found.lost), ("stuck", found.stuck), ("wrong", found.wrong))
            for image_id, reasons in images.items()
        ]
        more = [f"… and {len(lines) - SHOWN} more, in {self.logs / 'report.json'}"] if len(lines) > SHOWN else []
        return [*lines[:SHOWN], *more, *(f"fault that could not be done: {text}" for text in self.faults_failed)]

    def print_to(self, console: Console) -> None:
        ended = "" if self.is_complete else ", interrupted"
        table = Table(title=f"{self.minutes:g} minutes, seed {self.seed}{ended}", show_header=False)
        for name, text in self.rows():
            table.add_row(name, text, style="bold red" if name in ("lost", "stuck", "wrong") and text != "0" else None)
        console.print(table)
        injected = Table("fault", "times")
        for name, count in sorted(self.faults.items()):
            injected.add_row(name, str(count))
        console.print(injected)
        for line in self.problems():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if self.problems():
            console.print(f"The logs of all processes are in {self.logs}", markup=False, highlight=False, soft_wrap=True)

    def markdown(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        workers = f"{self.rate:g} uploads a second, 2 gateways, {self.workers} workers"
        lines = [
            f"`scripts/chaos --minutes {self.minutes:g} --seed {self.seed}`: {workers}.",
            f"Versions: {versions}.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {f'**{text}**' if name in ('lost', 'stuck', 'wrong') else text} |" for name, text in self.rows()),
            "",
            "| fault | times |",
            "|---|---|",
            *(f"| {name} | {count} |" for name, count in sorted(self.faults.items())),
        ]
        problems = self.problems()
        return "\n".join([*lines, *(["", *(f"- {line}" for line in problems)] if problems else [])]) + "\n"

    def write_to(self, page: Path) -> None:
        """The whole file; in a page that has a place for it, only what is there."""
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        page.write_text(f"{before}{begin}\n{self.markdown()}{end}{after}" if end else self.markdown(), encoding="utf-8")

    def json(self) -> str:
        return json.dumps(_plain(self) | {"accepted": self.accepted, "exit_code": self.exit_code}, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    """`dataclasses.asdict` takes Counters apart the wrong way."""
    return {entry.name: getattr(value, entry.name) for entry in fields(value)} if is_dataclass(value) else str(value)


def _counted(counts: Counter[str]) -> str:
    if not counts:
        return "0"
    return f"{counts.total():,} (" + ", ".join(f"{name}: {count}" for name, count in counts.most_common()) + ")"
