"""The services that chaos tests break, once for the session."""

from collections.abc import Iterator

import pytest

from tests.chaos.servers import Servers, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running_servers() as servers:
        yield servers
