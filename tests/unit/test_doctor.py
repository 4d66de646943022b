"""What the doctor makes of Keycloak's own words, which no real one can be made to say."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import format_datetime
from typing import Any, Self

import httpx
import pytest
import respx

from cli.doctor import examine_keycloak
from common.settings import Settings
from common.usecases.examine import Finding, Level

SETTINGS = Settings(_env_file=None, keycloak_url="http://keycloak:8080")
DISCOVERY = f"{SETTINGS.issuer}/.well-known/openid-configuration"
TOKEN = f"{SETTINGS.issuer}/protocol/openid-connect/token"


@pytest.fixture
def keycloak() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        router.get(DISCOVERY).respond(json={"issuer": SETTINGS.issuer})
        router.post(TOKEN).respond(401, json={"error": "unauthorized_client"})
        yield router


async def found() -> dict[str, Finding]:
    return {name: await examination() for name, examination in examine_keycloak(SETTINGS)}


class StandingClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(1_800_000_000, tz)


async def test_where_all_is_well(keycloak: respx.MockRouter) -> None:
    assert {name: finding.level for name, finding in (await found()).items()} == {"issuer": Level.OK, "client": Level.OK}


@pytest.mark.parametrize(("ahead", "words"), [(60.0, "60 s ahead of"), (-3600.0, "3600 s behind")])
async def test_a_clock_that_differs_by_more_than_tokens_bear(
    keycloak: respx.MockRouter, monkeypatch: pytest.MonkeyPatch, ahead: float, words: str
) -> None:
    monkeypatch.setattr("cli.doctor.datetime", StandingClock)
    there = format_datetime(StandingClock.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    keycloak.get(DISCOVERY).respond(json={"issuer": SETTINGS.issuer}, headers={"Date": there})

    issuer = (await found())["issuer"]

    assert issuer.level is Level.WARNING
    assert words in issuer.detail
    assert "NTP" in issuer.advice


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"text": "<html>a proxy's page</html>"}, "what answers there is not Keycloak"),
        ({"json": ["no", "object"]}, "what answers there is not Keycloak"),
        ({"json": {"nothing": "of use"}}, "what answers there is not Keycloak"),
        ({"status_code": 502, "text": ""}, "HTTP 502"),
        ({"status_code": 404, "json": {"error": "Realm does not exist"}}, "the realm is not there: HTTP 404"),
    ],
)
async def test_answers_that_keycloak_would_not_give(keycloak: respx.MockRouter, answer: dict[str, Any], words: str) -> None:
    keycloak.get(DISCOVERY).respond(**answer)
    keycloak.post(TOKEN).respond(**answer)

    for finding in (await found()).values():
        assert finding.level is Level.FAILED
        assert finding.detail.endswith(f": {words}")
        assert "KEYCLOAK_URL" in finding.advice


async def test_a_keycloak_that_is_away(keycloak: respx.MockRouter) -> None:
    keycloak.get(DISCOVERY).mock(side_effect=httpx.ConnectError("refused"))
    keycloak.post(TOKEN).mock(side_effect=httpx.ReadTimeout("silent"))

    assert [finding.level for finding in (await found()).values()] == [Level.FAILED, Level.FAILED]
