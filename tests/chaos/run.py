"""`scripts/chaos`: see `--help`."""

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from common.telemetry import configure_logging
from tests.chaos.faults import make_schedule
from tests.chaos.injection import Injection
from tests.chaos.ledger import FINAL, Row, judge
from tests.chaos.leftovers import Leftovers
from tests.chaos.load import Load, make_orders, open_load
from tests.chaos.report import Report, Times
from tests.chaos.samples import RENDER_MEMORY_BYTES, make_samples
from tests.chaos.servers import ROOT, running_servers
from tests.chaos.system import System, running_system, wait_until_settled
from tests.chaos.versions import versions

GATEWAYS = 2
# For what was accepted in the run's last second, and for the clients who wait for it.
SETTLE_SECONDS = 90.0
CLIENTS_SECONDS = 20.0
FETCHES_SECONDS = 300.0
# An image that was accepted this soon after a fault may still have felt it.
AFTERMATH = timedelta(seconds=5)
SHOWN_EVERY_SECONDS = 10.0
FETCHES_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    minutes: float
    seed: int
    rate: float
    workers: int

    @property
    def seconds(self) -> float:
        return self.minutes * 60


class Run:
    """One run over a system that is up."""

    def __init__(self, options: Options, system: System, console: Console) -> None:
        self.options = options
        self.system = system
        self.console = console
        self.samples = make_samples(options.seed)
        self.injection = Injection(system)
        self.stopped = asyncio.Event()
        self.leftovers = Leftovers(system)

    async def report(self, services: dict[str, str]) -> Report:
        """All of it: load and faults, healing, audit."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stopped.set)
        began = time.monotonic()
        ledger = self.system.ledger
        async with open_load(self.system.urls, ledger) as load:
            await self._disturbed(load)
            minutes = (time.monotonic() - began) / 60
            await asyncio.to_thread(self._heal)
            rows = await asyncio.to_thread(wait_until_settled, self.system, SETTLE_SECONDS)
            await self._fetch_all(load, rows)
        leftovers = await asyncio.to_thread(self.leftovers.count, rows)
        ledger.wrong_answers.extend(self.injection.ended_by_themselves)
        undisturbed, disturbed = self._times(rows)
        return Report(
            seed=self.options.seed,
            minutes=round(minutes, 1) if self.stopped.is_set() else self.options.minutes,
            rate=self.options.rate,
            workers=self.options.workers,
            versions=services,
            uploads=load.sent,
            judgement=judge(list(ledger.accepted.values()), rows, ledger.wrong_answers),
            refused=ledger.refused,
            repeats=ledger.repeats,
            reads=ledger.reads,
            unanswered_reads=ledger.unanswered_reads,
            longest_seconds=max((row.seconds for row in rows.values() if row.status in FINAL and not row.deleted), default=0),
            disturbed=disturbed,
            undisturbed=undisturbed,
            faults=self.injection.done,
            faults_failed=self.injection.failed,
            leftovers=leftovers,
            logs=self.system.folder,
            is_complete=not self.stopped.is_set(),
        )

    async def _disturbed(self, load: Load) -> None:
        """Load and faults, until both are over or the run is stopped."""
        orders = make_orders(self.options.seed, self.options.rate, self.options.seconds, self.samples)
        load.authorization = await asyncio.to_thread(self.system.as_user)
        watching = asyncio.create_task(self._watch(load))
        injecting = asyncio.create_task(
            asyncio.to_thread(self.injection.run, make_schedule(self.options.seed, self.options.seconds))
        )
        clients = asyncio.create_task(load.run(orders))
        stopping = asyncio.create_task(self.stopped.wait())
        try:
            await asyncio.wait([clients, stopping], timeout=self.options.seconds, return_when=asyncio.FIRST_COMPLETED)
            self.injection.stop()
            await injecting
            await asyncio.wait([clients, stopping], timeout=CLIENTS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.injection.stop()
            for task in (clients, stopping, watching):
                task.cancel()
            ended = await asyncio.gather(clients, stopping, watching, injecting, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _watch(self, load: Load) -> None:
        """Keeps the token fresh and the programs up, and says how it goes."""
        began = shown = time.monotonic()
        with self.console.status("") as status:
            while True:
                now = time.monotonic()
                with suppress(httpx.TransportError):
                    load.authorization = await asyncio.to_thread(self.system.as_user)
                self.injection.look_after_programs()
                line = self._progress(now - began, load)
                status.update(line)
                if not self.console.is_terminal and now - shown > SHOWN_EVERY_SECONDS:
                    self.console.print(line, markup=False, highlight=False, soft_wrap=True)
                    shown = now
                await asyncio.sleep(0.5)

    def _progress(self, seconds: float, load: Load) -> str:
        ledger = self.system.ledger
        final = sum(entry.status in FINAL or entry.is_gone for entry in ledger.accepted.values())
        bad = sum(bool(entry.lost or entry.wrong) for entry in ledger.accepted.values()) + len(ledger.wrong_answers)
        now = ", ".join(list(self.injection.active.values())) or "none"
        return (
            f"{timedelta(seconds=int(seconds))} of {timedelta(seconds=int(self.options.seconds))}: {load.sent} sent, "
            f"{len(ledger.accepted)} accepted, {final} seen to their end, {bad} lost or wrong; "
            f"{self.injection.done.total()} faults, now: {now}"
        )

    def _heal(self) -> None:
        """Everything runs and can be reached, whatever a fault that failed has left."""
        for proxy in self.system.proxies.values():
            proxy.heal()
        for server in self.system.servers.all:
            if server.is_up:
                server.resume()
            server.start()
        for program in (*self.system.gateways, *self.system.workers):
            if program.is_running():
                program.send(signal.SIGCONT)
            else:
                program.start_again()
        for program in (*self.system.gateways, *self.system.workers):
            try:
                self.system.wait_for(program)
            except AssertionError as error:
                self.system.ledger.wrong_answers.append(f"after the last fault: {error}")

    async def _fetch_all(self, load: Load, rows: Mapping[str, Row]) -> None:
        """The bytes of every completed image, once more, after the last fault."""
        load.authorization = await asyncio.to_thread(self.system.as_user)
        accepted = self.system.ledger.accepted
        waiting = [accepted[image_id] for image_id, row in rows.items() if image_id in accepted and row.status == "completed"]

        async def fetch() -> None:
            while waiting:
                await load.fetch(waiting.pop())

        try:
            async with asyncio.timeout(FETCHES_SECONDS), asyncio.TaskGroup() as group:
                for _ in range(FETCHES_AT_ONCE):
                    group.create_task(fetch())
        except TimeoutError:
            self.system.ledger.wrong_answers.append(f"{len(waiting)} results could not be fetched in {FETCHES_SECONDS:g} s")

    def _times(self, rows: Mapping[str, Row]) -> tuple[Times, Times]:
        """→ without a fault near, with one."""
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for image_id in self.system.ledger.accepted:
            row = rows.get(image_id)
            if row is not None and row.status == "completed" and not row.deleted:
                is_near = any(span.touches(row.created_at, row.updated_at, AFTERMATH) for span in self.injection.spans)
                seconds[is_near].append(row.seconds)
        return Times.of(seconds[False]), Times.of(seconds[True])


def chaos(options: Options, folder: Path, console: Console) -> Report:
    """Services, programs, the run; nothing is left running. The folder has the logs of all processes."""
    with running_servers() as servers:
        memory = {"RENDER_MEMORY_BYTES": str(RENDER_MEMORY_BYTES)}
        with running_system(folder, servers, gateways=GATEWAYS, workers=options.workers, **memory) as system:
            report = asyncio.run(Run(options, system, console).report(versions(system)))
        for server in servers.all:
            shutil.copy(server.log, folder / f"{server.name}.log")
    (folder / "report.json").write_text(report.json())
    return report


def main(
    minutes: Annotated[float, typer.Option(min=0.2, help="how long load and faults go on")] = 2,
    seed: Annotated[int | None, typer.Option(help="of faults and pictures: the same for the same; default: by the clock")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="uploads a second, on average")] = 6,
    workers: Annotated[int, typer.Option(min=1, help="worker processes")] = 2,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="write the outcome as markdown, into a page's place for it")
    ] = None,
    logs: Annotated[Path | None, typer.Option(metavar="DIR", help="for all processes' logs; default: below chaos-results/")] = None,
) -> None:
    """Random faults under a steady load of good and bad pictures, on real processes and services; then an audit of every promise.

    Exits with 1 if any accepted image was lost, stuck or wrong. Ctrl-C ends it early, with the audit and the table.
    """
    # As Ctrl-C, from the first moment on: nothing is to be left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 180)
    configure_logging("error", "text")
    options = Options(minutes=minutes, seed=int(time.time()) if seed is None else seed, rate=rate, workers=workers)
    folder = logs or ROOT / "chaos-results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-seed-{options.seed}"
    folder.mkdir(parents=True)
    console.print(f"seed {options.seed}; logs in {folder}", markup=False, highlight=False, soft_wrap=True)
    outcome = chaos(options, folder, console)
    outcome.print_to(console)
    if report is not None:
        outcome.write_to(report)
    raise typer.Exit(outcome.exit_code)


if __name__ == "__main__":
    typer.run(main)
