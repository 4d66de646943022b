"""Brings a running Keycloak to what the realm file says: the other half of scripts/setup_keycloak.sh.

Promises: what the file names exists afterwards as the file has it, whatever was missing or different before; a second run
changes nothing; what the file does not name (other clients, users, further redirect URIs) stays as it is. It does not
give a user that it has to make again the id from the file, since Keycloak takes ids only with a whole realm.

Only the standard library, so that it runs wherever a python3 is, before the project is installed.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import BaseHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

REALM_FILE = Path(__file__).resolve().parent / "ImageProcessor-realm.json"
JSON = dict[str, Any]


class SetupError(Exception):
    """What the operator has to know, in one line."""


class Keycloak:
    """The admin REST API, as far as it is needed here. Paths are relative to the realm's; a 404 reads as None."""

    def __init__(self, url: str, admin: str, password: str, realm: str, ca_file: str) -> None:
        """`ca_file`: of CAs that are believed beside the system's; may be empty."""
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise SetupError(f"KEYCLOAK_URL: {url!r} is no address like http://localhost:8080")
        self.url = url.rstrip("/")
        self.realm_path = f"/admin/realms/{quote(realm)}"
        self._token_path = f"/realms/{quote(realm)}/protocol/openid-connect/token"
        self._admin, self._password = admin, password
        self._token, self._token_until = "", 0.0
        on_loopback = address.hostname == "localhost" or address.hostname.startswith("127.") or address.hostname == "::1"
        handlers: list[BaseHandler] = [ProxyHandler({})] if on_loopback else []
        if ca_file:
            handlers.append(HTTPSHandler(context=_trusting(ca_file)))
        self._opener: OpenerDirector = build_opener(*handlers)

    def get(self, path: str) -> Any:
        return self._send("GET", self.realm_path + path)

    def post(self, path: str, body: Any) -> None:
        self._send("POST", self.realm_path + path, body)

    def put(self, path: str, body: Any) -> None:
        self._send("PUT", self.realm_path + path, body)

    def create_realm(self, realm: JSON) -> None:
        self._send("POST", "/admin/realms", realm)

    def accepts_password(self, client_id: str, username: str, password: str) -> bool:
        """Whether the user can get a token: the only way to learn of a password, which no API returns."""
        form = {"grant_type": "password", "client_id": client_id, "username": username, "password": password}
        return self._exchange("POST", self._token_path, form=form)[0] == 200

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        if time.monotonic() >= self._token_until:
            self._log_in()
        status, answer = self._exchange(method, path, body=body, token=self._token)
        if status == 404 and method == "GET":
            return None
        if status == 403:
            raise SetupError(f"{self._admin} may not administer realms (403 on {path})")
        if status >= 400:
            raise SetupError(f"{method} {path} answered {status}: {answer}")
        return answer

    def _log_in(self) -> None:
        form = {"grant_type": "password", "client_id": "admin-cli", "username": self._admin, "password": self._password}
        status, answer = self._exchange("POST", "/realms/master/protocol/openid-connect/token", form=form)
        if status in (400, 401) and isinstance(answer, dict) and "error" in answer:
            raise SetupError(
                f"{self.url} does not accept {self._admin} as an administrator: set KEYCLOAK_ADMIN, KEYCLOAK_ADMIN_PASSWORD"
            )
        if status != 200 or not isinstance(answer, dict) or "access_token" not in answer:
            raise SetupError(f"{self.url} answered {status} to a login: is it Keycloak's address?")
        self._token = answer["access_token"]
        self._token_until = time.monotonic() + answer["expires_in"] / 2  # a minute in all, by default

    def _exchange(
        self, method: str, path: str, *, body: Any = None, form: dict[str, str] | None = None, token: str = ""
    ) -> tuple[int, Any]:
        headers, data = {"Accept": "application/json"}, None
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if form is not None:
            data = urlencode(form).encode()
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = Request(self.url + path, data=data, headers=headers, method=method)  # noqa: S310 - the scheme is checked above
        try:
            with self._opener.open(request, timeout=60) as response:
                return response.status, _decoded(response.read())
        except HTTPError as error:
            with error:
                return error.code, _decoded(error.read())
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise SetupError(f"{self.url} does not answer ({reason}): is Keycloak up, and KEYCLOAK_URL right?") from error


def _trusting(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        raise SetupError(f"TLS_CA_FILE: {ca_file} is no PEM file of certificates") from None
    except OSError as error:
        raise SetupError(f"TLS_CA_FILE: cannot read {ca_file}: {error.strerror}") from None
    return context


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body[:200].decode(errors="replace")


def differing(wanted: JSON, present: JSON) -> JSON:
    """The part of `wanted` that `present` lacks. Lists are sets here: what they hold besides stays."""
    changes: JSON = {}
    for key, value in wanted.items():
        there = present.get(key)
        if isinstance(value, dict):
            if differing(value, there or {}):
                changes[key] = {**(there or {}), **value}
        elif isinstance(value, list):
            missing = [item for item in value if item not in (there or [])]
            if missing:
                changes[key] = [*(there or []), *missing]
        elif value != there:
            changes[key] = value
    return changes


def without(value: JSON, *keys: str) -> JSON:
    return {key: item for key, item in value.items() if key not in keys}


class Apply:
    """One run. `changes` tells afterwards what had to be done."""

    def __init__(self, keycloak: Keycloak) -> None:
        self.keycloak = keycloak
        self.changes: list[str] = []

    def realm(self, wanted: JSON) -> None:
        present = self.keycloak.get("")
        if present is None:
            self.keycloak.create_realm(wanted)
            self.changes.append("the realm, whole")
            return
        settings = differing(without(wanted, "roles", "clients", "users"), present)
        if settings:
            self.keycloak.put("", settings)
            self.changes.append(f"settings of the realm: {', '.join(settings)}")
        for role in wanted["roles"]["realm"]:
            self.role(role)
        for client in wanted["clients"]:
            self.client(client)
        for user in wanted["users"]:
            self.user(user, wanted["clients"][0]["clientId"])

    def role(self, wanted: JSON) -> None:
        path = f"/roles/{quote(wanted['name'])}"
        present = self.keycloak.get(path)
        if present is None:
            self.keycloak.post("/roles", wanted)
        elif differing(wanted, present):
            self.keycloak.put(path, {**present, **wanted})
        else:
            return
        self.changes.append(f"role {wanted['name']}")

    def client(self, wanted: JSON) -> None:
        name = wanted["clientId"]
        found = self.keycloak.get(f"/clients?clientId={quote(name)}")
        if not found:
            self.keycloak.post("/clients", wanted)
            self.changes.append(f"client {name}")
            return
        present = found[0]
        changes = differing(without(wanted, "protocolMappers", "defaultClientScopes"), present)
        if changes:
            self.keycloak.put(f"/clients/{present['id']}", {**present, **changes})
            self.changes.append(f"client {name}: {', '.join(changes)}")
        self.client_scopes(wanted, present)
        self.mappers(wanted, present)

    def client_scopes(self, wanted: JSON, present: JSON) -> None:
        path = f"/clients/{present['id']}/default-client-scopes"
        assigned = {scope["name"] for scope in self.keycloak.get(path)}
        missing = [name for name in wanted["defaultClientScopes"] if name not in assigned]
        known = {scope["name"]: scope["id"] for scope in self.keycloak.get("/client-scopes")} if missing else {}
        for name in missing:
            if name not in known:
                raise SetupError(f"the realm has no client scope {name!r}, one of Keycloak's own: delete the realm and run again")
            self.keycloak.put(f"{path}/{known[name]}", {})
            self.changes.append(f"client scope {name} of {wanted['clientId']}")

    def mappers(self, wanted: JSON, present: JSON) -> None:
        path = f"/clients/{present['id']}/protocol-mappers/models"
        there = {mapper["name"]: mapper for mapper in self.keycloak.get(path)}
        for mapper in wanted["protocolMappers"]:
            old = there.get(mapper["name"])
            if old is None:
                self.keycloak.post(path, mapper)
            elif differing(mapper, old):
                self.keycloak.put(f"{path}/{old['id']}", {**old, **mapper})
            else:
                continue
            self.changes.append(f"mapper {mapper['name']} of {wanted['clientId']}")

    def user(self, wanted: JSON, client_id: str) -> None:
        name, password = wanted["username"], wanted["credentials"][0]
        query = f"/users?exact=true&username={quote(name)}"
        found = self.keycloak.get(query)
        profile = without(wanted, "id", "credentials", "realmRoles")
        if not found:
            self.keycloak.post("/users", {**profile, "credentials": [password]})
            self.changes.append(f"user {name}")
            found = self.keycloak.get(query)
        present = found[0]
        changes = differing(profile, present)
        if present.get("requiredActions"):
            changes["requiredActions"] = []  # with one, the password grant is refused
        if changes:
            self.keycloak.put(f"/users/{present['id']}", {**present, **changes})
            self.changes.append(f"user {name}: {', '.join(changes)}")
        if not self.keycloak.accepts_password(client_id, name, password["value"]):
            self.keycloak.put(f"/users/{present['id']}/reset-password", password)
            self.changes.append(f"password of {name}")
        self.user_roles(wanted, present)

    def user_roles(self, wanted: JSON, present: JSON) -> None:
        path = f"/users/{present['id']}/role-mappings/realm"
        assigned = {role["name"] for role in self.keycloak.get(path)}
        missing = [name for name in wanted["realmRoles"] if name not in assigned]
        if missing:
            self.keycloak.post(path, [self.keycloak.get(f"/roles/{quote(name)}") for name in missing])
            self.changes.append(f"roles of {wanted['username']}: {', '.join(missing)}")


def wanted_realm(name: str, gateway_url: str, *, demo_users: bool) -> JSON:
    realm: JSON = json.loads(REALM_FILE.read_text(encoding="utf-8"))
    if name and name != realm["realm"]:
        renamed(realm, name)
    if gateway_url:
        address = urlsplit(gateway_url)
        if address.scheme not in ("http", "https") or not address.netloc:
            raise SetupError(f"GATEWAY_PUBLIC_URL: {gateway_url!r} is no address like https://images.example.com")
        origin = f"{address.scheme}://{address.netloc}"
        for client in realm["clients"]:
            for key, entry in (("redirectUris", f"{origin}/*"), ("webOrigins", origin)):
                if entry not in client[key]:
                    client[key].append(entry)
    if not demo_users:
        realm["users"] = []
    return realm


def renamed(realm: JSON, name: str) -> None:
    """The same under another name. Two things in it hang on the name: the ids of users are unique over all realms, and
    Keycloak calls the role that everybody has after the realm.
    """
    everybody = f"default-roles-{realm['realm'].lower()}"
    realm["realm"] = name
    for user in realm["users"]:
        del user["id"]
        user["realmRoles"] = [f"default-roles-{name.lower()}" if role == everybody else role for role in user["realmRoles"]]


def main(arguments: list[str]) -> int:
    environment = os.environ
    try:
        realm = wanted_realm(
            environment["KEYCLOAK_REALM"], environment["GATEWAY_PUBLIC_URL"], demo_users="--without-demo-users" not in arguments
        )
        keycloak = Keycloak(
            environment["KEYCLOAK_URL"],
            environment["KEYCLOAK_ADMIN"],
            environment["KEYCLOAK_ADMIN_PASSWORD"],
            realm["realm"],
            environment.get("TLS_CA_FILE", ""),
        )
        run = Apply(keycloak)
        run.realm(realm)
    except SetupError as error:
        sys.stderr.write(f"setup_keycloak.sh: {error}\n")
        return 1
    for change in run.changes:
        sys.stdout.write(f"made or repaired: {change}\n")
    outcome = "set up" if run.changes else "nothing to change"
    sys.stdout.write(f"realm {realm['realm']} on {keycloak.url}: {outcome}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
