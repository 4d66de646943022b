"""The services that chaos tests break, once for the session; and a system on them, for each test."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.servers import Servers, running_servers
from tests.chaos.system import System, running_system


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """As with the usual services: where they cannot be started, tests skip locally and fail in CI."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(running_servers())
        except AssertionError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield running


@pytest.fixture
def system(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """One gateway and one worker; their names in the services are their own."""
    with running_system(tmp_path, servers) as system:
        yield system
