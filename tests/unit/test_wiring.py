"""Adapters load lazily: a way of running pays for what it uses alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.settings import load
from common.wiring import open_ports

PROGRAM = """
import asyncio, sys
from common import wiring
from common.settings import load

async def main():
    settings = load(mode="embedded", data_dir=sys.argv[1], storage_type="local", storage_path=sys.argv[1] + "/blobs")
    async with wiring.open_ports(settings, wiring.open_dev_issuer(settings)) as ports:
        await ports.blobs.check()

asyncio.run(main())
print(*sorted({"aio_pika", "minio", "redis", "limits", "fastapi", "PIL"} & set(sys.modules)))
"""


def test_the_embedded_mode_loads_no_client_of_a_service(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == []


@pytest.mark.parametrize(("rate", "is_limited"), [("100/second", True), ("off", False)])
async def test_rates_are_limited_where_that_is_set(rate: str, is_limited: bool) -> None:
    # Given a Redis that is not there: nothing connects yet.
    async with open_ports(load(rate_limit=rate, redis_url="redis://127.0.0.1:1/0")) as ports:
        assert (ports.limiter is not None) == is_limited
