"""The services that chaos tests break, once for the session; and a system on them, for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.servers import Servers, running_servers
from tests.chaos.system import System, running_system


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running_servers() as servers:
        yield servers


@pytest.fixture
def system(tmp_path: Path, servers: Servers, keycloak_url: str) -> Iterator[System]:
    """One gateway and one worker; their names in the services are their own."""
    with running_system(tmp_path, servers) as system:
        yield system
