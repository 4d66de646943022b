"""The realm of keycloak/ on a real Keycloak: the tokens it issues, and scripts/setup_keycloak.sh, which makes and repairs it.

The repairs are tried on a second realm, made by the same script, so that tests that hold tokens of the first go on.
"""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
CLIENT = "api-gateway-client"
ROLES = {"user": {"user"}, "other": {"user"}, "admin-user": {"user", "admin"}}
SPARE_REALM = "ImageProcessor-repairs"
JSON = dict[str, Any]


def claims_of(token: str) -> JSON:
    payload = token.split(".")[1]
    claims: JSON = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@dataclass
class Realm:
    http: httpx.Client
    name: str

    def token(self, **form: str) -> httpx.Response:
        return self.http.post(f"/realms/{self.name}/protocol/openid-connect/token", data={"client_id": CLIENT, **form})

    def log_in(self, username: str) -> JSON:
        response = self.token(grant_type="password", username=username, password="password", scope="openid")
        assert response.status_code == 200, response.text
        tokens: JSON = response.json()
        return tokens

    def authorize(self, **parameters: str) -> httpx.Response:
        form = {"client_id": CLIENT, "response_type": "code", "scope": "openid", **parameters}
        return self.http.get(f"/realms/{self.name}/protocol/openid-connect/auth", params=form)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        token = self.http.post("/realms/master/protocol/openid-connect/token", data=form).raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        response = self.http.request(method, f"/admin/realms/{self.name}{path}", json=body, headers=headers)
        response.raise_for_status()
        return response.json() if response.content else None

    def client(self) -> JSON:
        found: list[JSON] = self.admin("GET", f"/clients?clientId={CLIENT}")
        return found[0]

    def user(self, username: str) -> JSON:
        found: list[JSON] = self.admin("GET", f"/users?exact=true&username={username}")
        return found[0]

    def contents(self) -> JSON:
        """All that the script looks after, in an order that does not change."""
        users = [self.user(name) for name in ROLES]
        return {
            "realm": self.admin("GET", ""),
            "client": self.client(),
            "users": users,
            "roles": sorted(role["name"] for role in self.admin("GET", "/roles")),
            "assigned": [
                sorted(role["name"] for role in self.admin("GET", f"/users/{user['id']}/role-mappings/realm")) for user in users
            ],
        }


@pytest.fixture
def http(keycloak_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=keycloak_url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def realm(http: httpx.Client) -> Realm:
    return Realm(http, "ImageProcessor")


def run_setup(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "KEYCLOAK_URL": url, "KEYCLOAK_REALM": SPARE_REALM, **environment}
    command = [str(ROOT / "scripts/setup_keycloak.sh"), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=90, check=False)


def set_up(url: str, **environment: str) -> str:
    finished = run_setup(url, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def spare_realm(http: httpx.Client, keycloak_url: str) -> Iterator[Realm]:
    spare = Realm(http, SPARE_REALM)
    assert "the realm, whole" in set_up(keycloak_url)
    yield spare
    spare.admin("DELETE", "")


@pytest.mark.parametrize("username", ROLES)
def test_an_access_token_says_who_for_whom_and_with_which_roles(realm: Realm, keycloak_url: str, username: str) -> None:
    tokens = realm.log_in(username)

    claims = claims_of(tokens["access_token"])
    assert claims["iss"] == f"{keycloak_url}/realms/ImageProcessor"
    assert CLIENT in claims["aud"]
    assert claims["azp"] == CLIENT
    assert claims["typ"] == "Bearer"
    assert claims["sub"] == realm.user(username)["id"]
    assert set(claims["realm_access"]["roles"]) & {"user", "admin"} == ROLES[username]
    assert claims["preferred_username"] == username
    assert claims["exp"] > claims["iat"]
    assert claims_of(tokens["id_token"])["sub"] == claims["sub"]


def test_a_refresh_token_gives_a_new_access_token_of_the_same_user(realm: Realm) -> None:
    tokens = realm.log_in("user")

    refreshed = realm.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])

    assert refreshed.status_code == 200
    assert claims_of(refreshed.json()["access_token"])["sub"] == claims_of(tokens["access_token"])["sub"]


def test_a_wrong_password_gets_no_token(realm: Realm) -> None:
    assert realm.token(grant_type="password", username="user", password="wrong").status_code == 401


def test_the_code_flow_starts_with_pkce_alone(realm: Realm) -> None:
    redirect = "http://localhost:3000/docs/oauth2-redirect"

    without_challenge = realm.authorize(redirect_uri=redirect)
    plain = realm.authorize(redirect_uri=redirect, code_challenge="c" * 43, code_challenge_method="plain")
    hashed = realm.authorize(redirect_uri=redirect, code_challenge="c" * 43, code_challenge_method="S256")

    assert "error=invalid_request" in without_challenge.headers["Location"]
    assert "error=invalid_request" in plain.headers["Location"]
    assert hashed.status_code == 200


def test_the_code_flow_goes_back_to_known_addresses_alone(realm: Realm) -> None:
    elsewhere = realm.authorize(redirect_uri="http://example.com/", code_challenge="c" * 43, code_challenge_method="S256")

    assert elsewhere.status_code == 400


def test_a_realm_made_by_the_script_issues_the_same_tokens(spare_realm: Realm) -> None:
    for username, roles in ROLES.items():
        claims = claims_of(spare_realm.log_in(username)["access_token"])
        assert CLIENT in claims["aud"]
        assert claims["sub"]
        assert set(claims["realm_access"]["roles"]) & {"user", "admin"} == roles


def test_a_second_run_changes_nothing(spare_realm: Realm, keycloak_url: str) -> None:
    before = spare_realm.contents()

    report = set_up(keycloak_url)

    assert "nothing to change" in report
    assert spare_realm.contents() == before


def test_what_is_missing_comes_back(spare_realm: Realm, keycloak_url: str) -> None:
    client = f"/clients/{spare_realm.client()['id']}"
    basic = next(scope for scope in spare_realm.admin("GET", f"{client}/default-client-scopes") if scope["name"] == "basic")
    mapper = spare_realm.admin("GET", f"{client}/protocol-mappers/models")[0]
    spare_realm.admin("DELETE", f"{client}/protocol-mappers/models/{mapper['id']}")
    spare_realm.admin("DELETE", f"{client}/default-client-scopes/{basic['id']}")
    spare_realm.admin("DELETE", f"/users/{spare_realm.user('other')['id']}")
    spare_realm.admin("DELETE", "/roles/admin")
    damaged = claims_of(spare_realm.log_in("admin-user")["access_token"])
    assert CLIENT not in damaged["aud"]
    assert "sub" not in damaged
    assert "admin" not in damaged["realm_access"]["roles"]

    set_up(keycloak_url)

    repaired = claims_of(spare_realm.log_in("admin-user")["access_token"])
    assert CLIENT in repaired["aud"]
    assert repaired["sub"]
    assert "admin" in repaired["realm_access"]["roles"]
    assert claims_of(spare_realm.log_in("other")["access_token"])["preferred_username"] == "other"
    assert "nothing to change" in set_up(keycloak_url)


def test_a_deleted_client_comes_back(spare_realm: Realm, keycloak_url: str) -> None:
    spare_realm.admin("DELETE", f"/clients/{spare_realm.client()['id']}")

    set_up(keycloak_url)

    assert CLIENT in claims_of(spare_realm.log_in("user")["access_token"])["aud"]


def test_what_was_changed_is_changed_back(spare_realm: Realm, keycloak_url: str) -> None:
    user, client = spare_realm.user("user"), spare_realm.client()
    spare_realm.admin("PUT", f"/users/{user['id']}/reset-password", {"type": "password", "value": "changed", "temporary": True})
    spare_realm.admin("PUT", f"/users/{user['id']}", {**user, "enabled": False})
    spare_realm.admin("PUT", f"/clients/{client['id']}", {**client, "redirectUris": ["http://localhost:3000/*"]})
    spare_realm.admin("PUT", "", {"enabled": True, "registrationAllowed": True})

    set_up(keycloak_url)

    assert spare_realm.log_in("user")
    assert "http://127.0.0.1:3000/*" in spare_realm.client()["redirectUris"]
    assert spare_realm.admin("GET", "")["registrationAllowed"] is False


def test_the_gateways_public_address_is_added_and_kept(spare_realm: Realm, keycloak_url: str) -> None:
    set_up(keycloak_url, GATEWAY_PUBLIC_URL="https://images.example.com/")
    set_up(keycloak_url)

    client = spare_realm.client()
    assert "https://images.example.com/*" in client["redirectUris"]
    assert "https://images.example.com" in client["webOrigins"]


def test_the_demo_users_can_be_left_out(spare_realm: Realm, keycloak_url: str) -> None:
    spare_realm.admin("DELETE", f"/users/{spare_realm.user('user')['id']}")

    finished = run_setup(keycloak_url, "--without-demo-users")

    assert finished.returncode == 0
    assert spare_realm.admin("GET", "/users?exact=true&username=user") == []


def test_a_wrong_administrator_is_one_line(keycloak_url: str) -> None:
    finished = run_setup(keycloak_url, KEYCLOAK_ADMIN_PASSWORD="wrong")

    assert finished.returncode == 1
    assert "KEYCLOAK_ADMIN_PASSWORD" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "keycloak:8080"])
def test_an_address_without_a_keycloak_is_one_line(url: str) -> None:
    finished = run_setup(url)

    assert finished.returncode == 1
    assert "KEYCLOAK_URL" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
