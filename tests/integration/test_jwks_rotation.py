"""The verifier beside a real Keycloak whose keys change, in a realm of the test's own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest
from jose import jws
from prometheus_client import REGISTRY

from common.adapters.keycloak import KeycloakTokenVerifier, RemoteJwks
from common.errors import Unauthorized

CLIENT = "rotation-test"
COOLDOWN = 10


@dataclass
class Realm:
    """A throwaway realm, with an administrator's connection to it."""

    admin: httpx.AsyncClient
    url: str

    async def token(self) -> str:
        form = {"grant_type": "password", "client_id": CLIENT, "username": "rita", "password": "password"}
        answer = await self.admin.post(f"{self.url}/protocol/openid-connect/token", data=form, headers={"Authorization": ""})
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    async def sign_with(self, algorithm: str) -> None:
        (client,) = (await self.admin.get("clients", params={"clientId": CLIENT})).raise_for_status().json()
        changed = client | {"attributes": client["attributes"] | {"access.token.signed.response.alg": algorithm}}
        (await self.admin.put(f"clients/{client['id']}", json=changed)).raise_for_status()

    async def add_key(self) -> str:
        """A new signing key, preferred to the old one. → its provider's address."""
        realm = (await self.admin.get("")).raise_for_status().json()
        provider = {
            "name": "rotated",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "parentId": realm["id"],
            "config": {"priority": ["200"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"], "keySize": ["2048"]},
        }
        return (await self.admin.post("components", json=provider)).raise_for_status().headers["Location"]

    async def remove_key(self, address: str) -> None:
        (await self.admin.delete(address)).raise_for_status()


@pytest.fixture
async def realm(keycloak_url: str) -> AsyncIterator[Realm]:
    name = f"rotation-{uuid4()}"
    client = {"clientId": CLIENT, "publicClient": True, "directAccessGrantsEnabled": True}
    credentials = [{"type": "password", "value": "password", "temporary": False}]
    person = {"firstName": "Rita", "lastName": "Rotation", "email": "rita@example.com", "emailVerified": True}
    user = {"username": "rita", "enabled": True, "credentials": credentials, **person}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        granted = await http.post(f"{keycloak_url}/realms/master/protocol/openid-connect/token", data=form)
        http.headers["Authorization"] = f"Bearer {granted.raise_for_status().json()['access_token']}"
        wanted = {"realm": name, "enabled": True, "clients": [client], "users": [user]}
        (await http.post(f"{keycloak_url}/admin/realms", json=wanted)).raise_for_status()
        http.base_url = httpx.URL(f"{keycloak_url}/admin/realms/{name}/")
        try:
            yield Realm(http, f"{keycloak_url}/realms/{name}")
        finally:
            (await http.delete("")).raise_for_status()


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def verifier(realm: Realm, clock: FakeClock) -> AsyncIterator[KeycloakTokenVerifier]:
    keys = RemoteJwks(f"{realm.url}/protocol/openid-connect/certs", 300, COOLDOWN, 10, clock)
    yield KeycloakTokenVerifier(realm.url, CLIENT, keys)
    await keys.close()


def fetches() -> float:
    return REGISTRY.get_sample_value("image_processor_jwks_fetches_total", {"result": "ok"}) or 0.0


def kid(token: str) -> str:
    return str(jws.get_unverified_header(token)["kid"])


async def test_a_rotated_key_is_accepted_after_one_fetch(realm: Realm, verifier: KeycloakTokenVerifier, clock: FakeClock) -> None:
    # given keys in hand
    old_token = await realm.token()
    await verifier.verify(old_token)
    before = fetches()

    # when the realm begins to sign with another
    await realm.add_key()
    new_token = await realm.token()
    assert kid(new_token) != kid(old_token)

    # then within the cooldown it is unknown, and after it one fetch finds it
    with pytest.raises(Unauthorized, match="unknown key"):
        await verifier.verify(new_token)
    assert fetches() == before
    clock.now += COOLDOWN
    for _ in range(3):
        await verifier.verify(new_token)
        await verifier.verify(old_token)
    assert fetches() == before + 1


async def test_a_withdrawn_key_is_forgotten_by_the_next_fetch(
    realm: Realm, verifier: KeycloakTokenVerifier, clock: FakeClock
) -> None:
    # given a token by a key that is then withdrawn
    address = await realm.add_key()
    leaked = await realm.token()
    await verifier.verify(leaked)
    await realm.remove_key(address)
    await realm.add_key()

    # when a token by its successor makes the verifier look
    clock.now += COOLDOWN
    await verifier.verify(await realm.token())

    # then
    with pytest.raises(Unauthorized, match="unknown key"):
        await verifier.verify(leaked)


async def test_keycloaks_own_tokens_are_accepted_by_each_algorithm_of_the_list_alone(
    realm: Realm, verifier: KeycloakTokenVerifier, clock: FakeClock
) -> None:
    for algorithm in ("RS256", "RS384", "RS512", "PS256", "ES256"):
        await realm.sign_with(algorithm)
        token = await realm.token()
        assert jws.get_unverified_header(token)["alg"] == algorithm
        clock.now += COOLDOWN
        assert (await verifier.verify(token)).subject

    for algorithm in ("PS384", "ES384", "EdDSA"):
        await realm.sign_with(algorithm)
        token = await realm.token()
        assert jws.get_unverified_header(token)["alg"] == algorithm
        clock.now += COOLDOWN
        with pytest.raises(Unauthorized, match="algorithm"):
            await verifier.verify(token)
