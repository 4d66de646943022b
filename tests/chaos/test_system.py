"""The system that chaos tests disturb, undisturbed: what was accepted passes the audit, and the audit sees what is not right."""

import signal
from pathlib import Path

import pytest

from tests.chaos.samples import CORRUPT, GOOD, make_samples
from tests.chaos.servers import Servers
from tests.chaos.system import System, running_system
from tests.polling import wait_until


def test_all_that_was_accepted_passes_the_audit(system: System) -> None:
    samples = make_samples(1)

    for sample in (*samples[GOOD], *samples[CORRUPT]):
        system.accept(sample)

    system.audit(within_seconds=30)
    assert system.inventory.messages()["images.dead"] == len(samples[CORRUPT])
    assert system.metric(system.workers[0], "image_processor_processed_total", outcome="completed") == len(samples[GOOD])


def test_the_audit_sees_what_is_missing(system: System) -> None:
    system.ledger.accept("01936c2e-0000-7000-8000-000000000000", "never.jpg", make_samples(1)[GOOD][0])

    with pytest.raises(AssertionError, match="its row is gone"):
        system.audit(within_seconds=1)


def test_a_killed_or_paused_program_runs_again(system: System) -> None:
    for program, number in ((system.gateways[0], signal.SIGKILL), (system.workers[0], signal.SIGSTOP)):
        program.send(number)
        system.restart(program)
    system.accept(make_samples(1)[GOOD][0])

    system.audit(within_seconds=30)


def test_nothing_is_left_running(tmp_path: Path, servers: Servers) -> None:
    with running_system(tmp_path, servers) as system:
        programs = [*system.gateways, *system.workers]
        # A worker says that it is ready before its renderer has started.
        renderers = wait_until(system.workers[0].renderers, "the renderer")
        assert len(renderers) == 1

    assert not any(program.is_running() for program in programs)
    wait_until(lambda: not Path(f"/proc/{renderers[0]}").exists(), "the renderer to end with its worker", 10)
