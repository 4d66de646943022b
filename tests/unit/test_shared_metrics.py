"""Metrics that several processes share, where nobody but the library's own variable says so."""

import os
import subprocess
import sys
from pathlib import Path

SHOW = """
import common.telemetry as telemetry
from common.shared_metrics import registry
from prometheus_client import generate_latest
telemetry.UPLOAD_BYTES.inc(7)
print(generate_latest(registry()).decode())
"""


def test_with_the_variable_set_by_hand_a_process_tells_of_itself(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOW],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert shown.returncode == 0, shown.stderr
    assert "image_processor_upload_bytes_total 7.0" in shown.stdout.splitlines()
    if sys.platform == "linux":
        assert "process_resident_memory_bytes" in shown.stdout
