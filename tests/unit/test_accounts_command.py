"""How `image-processor accounts` goes about services that are away."""

import pytest

from cli.accounts import run_accounts
from cli.errors import RequestFailed
from common.errors import Unavailable
from common.ports import Accounts
from common.settings import Settings

SETTINGS = Settings(_env_file=None)


class Late:
    """Away for so many calls."""

    def __init__(self, away: int) -> None:
        self.left = away
        self.calls = 0

    async def make(self) -> str:
        self.calls += 1
        if self.calls <= self.left:
            raise Unavailable("queue", "not there yet")
        return "all is well"

    def uses(self, name: str) -> bool:
        raise AssertionError(name)

    async def remove(self, name: str) -> bool:
        raise AssertionError(name)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> dict[str, Accounts | str]:
    found: dict[str, Accounts | str] = {}
    monkeypatch.setattr("cli.accounts.open_accounts", lambda *_: found)
    monkeypatch.setattr("cli.accounts.INTERVAL_SECONDS", 0.01)
    return found


async def test_it_waits_for_those_that_are_away_alone(
    services: dict[str, Accounts | str], capsys: pytest.CaptureFixture[str]
) -> None:
    there, late = Late(0), Late(2)
    services |= {"RabbitMQ": late, "MinIO": there}

    await run_accounts(SETTINGS, None, 20)

    assert (there.calls, late.calls) == (1, 3)
    assert capsys.readouterr().out == "MinIO: all is well.\nRabbitMQ: all is well.\n"


async def test_it_gives_up_and_says_why(services: dict[str, Accounts | str], capsys: pytest.CaptureFixture[str]) -> None:
    services |= {"RabbitMQ": Late(1), "MinIO": Late(0), "Redis": "REDIS_ADMIN_URL"}

    with pytest.raises(RequestFailed):
        await run_accounts(SETTINGS, None, 0)

    said = capsys.readouterr()
    assert said.err == "RabbitMQ: nothing was done (not there yet).\n"
    assert said.out == "MinIO: all is well.\nRedis: left as it is; REDIS_ADMIN_URL is not set.\n"
