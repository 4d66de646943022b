"""What both issuers' tokens and their verifier promise: the embedded mode's, and a real Keycloak's by a real password grant."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from common.adapters.dev_issuer import DevIssuer
from common.adapters.keycloak import KeycloakTokenVerifier, RemoteJwks
from common.errors import Unauthorized
from common.ports import TokenVerifier
from common.settings import Settings


@dataclass(frozen=True)
class Issuer:
    """A verifier, and how to get the token response of a user from the issuer it trusts."""

    verifier: TokenVerifier
    tokens_of: Callable[[str], Awaitable[dict[str, str]]]


@pytest.fixture
def embedded(tmp_path: Path) -> Issuer:
    issuer = DevIssuer("http://localhost:3000", "ImageProcessor", "api-gateway-client", tmp_path / "issuer.pem")

    async def tokens_of(name: str) -> dict[str, str]:
        user = issuer.authenticate(name, "password")
        assert user
        return issuer.issue(user, "openid")

    return Issuer(KeycloakTokenVerifier(issuer.url, issuer.client_id, issuer), tokens_of)


@pytest.fixture
async def keycloak(settings: Settings, keycloak_url: str) -> AsyncIterator[Issuer]:
    keys = RemoteJwks(settings.jwks_url, settings.jwks_refresh_seconds, settings.jwks_cooldown_seconds, 10)

    async def tokens_of(name: str) -> dict[str, str]:
        form = {
            "grant_type": "password",
            "client_id": settings.keycloak_client_id,
            "username": name,
            "password": "password",
            "scope": "openid",
        }
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{settings.issuer}/protocol/openid-connect/token", data=form)
        tokens: dict[str, str] = answer.raise_for_status().json()
        return tokens

    yield Issuer(KeycloakTokenVerifier(settings.issuer, settings.keycloak_client_id, keys), tokens_of)
    await keys.close()


@pytest.fixture(params=["embedded", "keycloak"])
def issuer(request: pytest.FixtureRequest) -> Issuer:
    found: Issuer = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("name", "admin"), [("user", False), ("other", False), ("admin-user", True)])
async def test_a_demo_users_access_token_gives_subject_and_roles(issuer: Issuer, name: str, admin: bool) -> None:
    first = await issuer.verifier.verify((await issuer.tokens_of(name))["access_token"])
    second = await issuer.verifier.verify((await issuer.tokens_of(name))["access_token"])

    assert first.subject == second.subject
    assert "user" in first.roles
    assert first.is_admin == admin


async def test_users_have_subjects_of_their_own(issuer: Issuer) -> None:
    names = ("user", "other", "admin-user")

    subjects = {(await issuer.verifier.verify((await issuer.tokens_of(name))["access_token"])).subject for name in names}

    assert len(subjects) == len(names)


@pytest.mark.parametrize("part", [1, 2], ids=["payload", "signature"])
async def test_a_tampered_token_is_refused(issuer: Issuer, part: int) -> None:
    parts = (await issuer.tokens_of("user"))["access_token"].split(".")
    middle = len(parts[part]) // 2
    parts[part] = parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]

    with pytest.raises(Unauthorized, match="signature"):
        await issuer.verifier.verify(".".join(parts))


@pytest.mark.parametrize("kind", ["refresh_token", "id_token"])
async def test_another_kind_of_token_is_refused(issuer: Issuer, kind: str) -> None:
    token = (await issuer.tokens_of("admin-user"))[kind]

    with pytest.raises(Unauthorized):
        await issuer.verifier.verify(token)


async def test_a_token_of_another_realm_is_refused(issuer: Issuer, tmp_path: Path) -> None:
    stranger = DevIssuer("http://localhost:3000", "ImageProcessor", "api-gateway-client", tmp_path / "stranger.pem")
    user = stranger.authenticate("admin-user", "password")
    assert user

    with pytest.raises(Unauthorized, match="unknown key"):
        await issuer.verifier.verify(stranger.issue(user, "")["access_token"])


async def test_it_is_ready(issuer: Issuer) -> None:
    await issuer.verifier.check()
