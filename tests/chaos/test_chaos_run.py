"""`scripts/chaos` itself: a run of two minutes must find nothing; the schedule; what an injection does when faults go wrong."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import cast

import pytest

from tests.chaos.faults import FAULTS, Fault, Planned, make_schedule
from tests.chaos.injection import Injection, Span
from tests.chaos.servers import ROOT
from tests.chaos.system import System
from tests.polling import wait_until


@pytest.mark.timeout(420)
def test_two_minutes_of_faults_and_nothing_is_lost_stuck_or_wrong(keycloak_url: str, tmp_path: Path) -> None:
    # when
    written = tmp_path / "report.md"
    options = ["--minutes", "2", "--seed", "1", "--report", str(written), "--logs", str(tmp_path / "logs")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.run", *options], cwd=ROOT, capture_output=True, text=True, timeout=400
    )

    # then
    assert done.returncode == 0, done.stdout + done.stderr
    table = written.read_text()
    for verdict in ("lost", "stuck", "wrong"):
        assert f"| {verdict} | **0** |" in table
    outcome = json.loads((tmp_path / "logs" / "report.json").read_text())
    assert outcome["accepted"] > 300
    assert sum(outcome["faults"].values()) >= 6
    assert outcome["faults_failed"] == []
    assert re.search(r"objects without a row \| 0 after a sweep", table)
    assert len((tmp_path / "logs" / "accepted.jsonl").read_text().splitlines()) == outcome["accepted"]


@pytest.mark.timeout(240)
def test_ctrl_c_ends_a_run_with_its_table_and_leaves_nothing_running(keycloak_url: str, tmp_path: Path) -> None:
    # given a run that is under way
    options = ["--minutes", "5", "--seed", "3", "--logs", str(tmp_path / "logs")]
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen([sys.executable, "-m", "tests.chaos.run", *options], cwd=ROOT, stdout=output, stderr=output)
    try:
        wait_until(lambda: "accepted" in (tmp_path / "output").read_text(), "the run to be under way", 100)
        assert _processes_in(tmp_path / "logs")

        # when
        run.send_signal(signal.SIGINT)

        # then
        assert run.wait(100) == 0, (tmp_path / "output").read_text()
        assert "interrupted" in (tmp_path / "output").read_text()
        assert json.loads((tmp_path / "logs" / "report.json").read_text())["is_complete"] is False
        wait_until(lambda: not _processes_in(tmp_path / "logs"), "all its processes to end", 20)
    finally:
        run.kill()
        run.wait()


def _processes_in(folder: Path) -> list[int]:
    """Programs have their working directory there."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_in(path, folder)]


def _is_in(process: Path, folder: Path) -> bool:
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


def test_the_same_seed_gives_the_same_faults_and_another_gives_others() -> None:
    first = list(make_schedule(1, 600))

    assert first == list(make_schedule(1, 600))
    assert first != list(make_schedule(2, 600))


def test_twenty_minutes_have_enough_faults_and_every_kind() -> None:
    for seed in (1, 2, 20261123):
        schedule = list(make_schedule(seed, 1200))

        assert len(schedule) >= 80
        assert {planned.fault.name for planned in schedule} == {fault.name for fault in FAULTS}
        assert schedule == sorted(schedule, key=lambda planned: planned.at)


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


# ---------------------------------------------------------------- injection


class Nothing:
    """A system without programs."""

    gateways: tuple[()] = ()
    workers: tuple[()] = ()


def injection() -> Injection:
    return Injection(cast(System, Nothing()))


def planned(name: str, part: str, begin: Callable[[], Callable[[], None]], *, at: float = 0, seconds: float = 0) -> Planned:
    def begins(system: System, dice: Random) -> Callable[[], None]:
        return begin()

    return Planned(at=at, seconds=seconds, fault=Fault(name=name, part=part, seconds=(0, 0), begin=begins), seed=1)


def test_a_fault_begins_and_ends() -> None:
    happened: list[str] = []

    def begin() -> Callable[[], None]:
        happened.append("begun")
        return lambda: happened.append("ended")

    made = injection()
    made.run([planned("a", "x", begin)])

    assert happened == ["begun", "ended"]
    assert (made.done, made.failed, made.active, len(made.spans)) == ({"a": 1}, [], {}, 1)


def test_two_faults_of_one_part_are_never_there_together_and_two_of_others_are() -> None:
    there: set[str] = set()
    together: set[frozenset[str]] = set()
    lock = threading.Lock()

    def fault(name: str) -> Callable[[], Callable[[], None]]:
        def begin() -> Callable[[], None]:
            with lock:
                there.add(name)
                together.add(frozenset(there))
            return lambda: there.discard(name)

        return begin

    made = injection()
    made.run([planned(name, name[0], fault(name), seconds=0.1) for name in ("x1", "x2", "y1", "z1", "x3")])

    assert made.done.total() == 5
    assert max(map(len, together)) == 2
    assert all(len({name[0] for name in names}) == len(names) for names in together)


def test_a_fault_that_cannot_be_done_is_told_and_the_others_go_on() -> None:
    def fails() -> Callable[[], None]:
        raise RuntimeError("no such thing")

    made = injection()
    made.run([planned("a", "x", fails), planned("b", "x", lambda: lambda: None)])

    assert made.failed == ["a: RuntimeError: no such thing"]
    assert made.done == {"b": 1}


def test_stopping_ends_what_is_there_and_begins_nothing_more() -> None:
    ended = threading.Event()
    made = injection()
    running = threading.Thread(
        target=made.run,
        args=([planned("a", "x", lambda: ended.set, seconds=60), planned("b", "y", lambda: lambda: None, at=60)],),
    )
    running.start()
    wait_until(lambda: made.active, "the fault to begin", 5)

    made.stop()

    running.join(5)
    assert not running.is_alive()
    assert ended.is_set()
    assert made.done == {"a": 1}


def test_what_was_near_a_fault() -> None:
    def at(second: float) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)

    span, aftermath = Span(at(10), at(20)), timedelta(seconds=5)

    assert [span.touches(at(begin), at(end), aftermath) for begin, end in ((5, 9), (5, 11), (12, 13), (24, 26), (26, 27))] == [
        False,
        True,
        True,
        True,
        False,
    ]
