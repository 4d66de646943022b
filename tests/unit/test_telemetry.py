"""The log says where an error happened, and not what was in hand there: tokens, secrets, bytes of pictures."""

import subprocess
import sys

import pytest
from prometheus_client import Gauge

from common import telemetry
from common.shared_metrics import RESERVED_BYTES

PROGRAM = """
import sys
from common.telemetry import configure_logging, log

def judge(token):
    raise ZeroDivisionError

configure_logging("info", sys.argv[1])
try:
    judge(sys.stdin.read())
except ZeroDivisionError as error:
    log.error("unhandled error", exc_info=error)
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_traceback_without_what_the_variables_held(form: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, form], input="a-stolen-token", capture_output=True, text=True, timeout=60, check=True
    )

    assert "ZeroDivisionError" in ran.stderr
    assert "judge" in ran.stderr
    assert "a-stolen-token" not in ran.stderr + ran.stdout


def test_every_gauge_says_how_processes_that_share_it_add_up() -> None:
    modes = {name: gauge._multiprocess_mode for name, gauge in vars(telemetry).items() if isinstance(gauge, Gauge)}

    # Without one there would be a series a process, with its number as a label.
    assert set(modes.values()) == {"max", "livesum"}
    assert {f"gauge_{mode}" for mode in modes.values()} <= set(RESERVED_BYTES)
