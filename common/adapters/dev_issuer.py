"""The embedded mode's token issuer: three demo users with a known password, and tokens like Keycloak's, without a Keycloak.

Promises the same users, claims and lifetimes as the realm in keycloak/, and a key that survives a restart. Is no identity
provider: everybody knows the password, and no token can be revoked. The settings keep it out of production.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jws
from jose.backends.base import Key
from jose.backends.cryptography_backend import CryptographyRSAKey
from jose.exceptions import JOSEError

from common.adapters.keycloak.keys import MIN_RSA_BITS, read_jwks
from common.errors import WrongConfiguration

ALGORITHM = "RS256"
PASSWORD = "password"  # noqa: S105 - the demo users' password, as the documentation tells everybody
ACCESS_SECONDS = 300
REFRESH_SECONDS = 1800
CODE_SECONDS = 60
MAX_CODES = 1000
# Subjects stay the same whatever port or realm the issuer is started with, so that images keep their owners.
SUBJECTS = UUID("c9f1b8a8-4e0b-5d55-9d6e-6b1f0d1c7a10")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    name: str
    given_name: str
    family_name: str
    roles: tuple[str, ...]

    @property
    def subject(self) -> str:
        return str(uuid5(SUBJECTS, self.name))


USERS = {
    user.name: user
    for user in (
        User(name="user", given_name="Uma", family_name="User", roles=("user",)),
        User(name="other", given_name="Otto", family_name="Other", roles=("user",)),
        User(name="admin-user", given_name="Ada", family_name="Admin", roles=("user", "admin")),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRequest:
    """What an authorization code is bound to. `challenge` is PKCE's S256 of the verifier (RFC 7636)."""

    redirect_uri: str
    scope: str
    nonce: str | None
    challenge: str


class DevIssuer:
    """Also a KeySource for the verifier in the same process. `clock` gives seconds since 1970.

    Raises WrongConfiguration where the key file can be neither read nor made.
    """

    def __init__(self, base_url: str, realm: str, client_id: str, key_path: Path, clock: Callable[[], float] = time.time) -> None:
        self.realm = realm
        self.client_id = client_id
        self.origin = base_url
        self.url = f"{base_url}/realms/{realm}"
        self._clock = clock
        self._key = _stored_key(key_path)
        self._public_key = self._key.public_key()
        public = self._public_key.to_dict()
        self._kid = _thumbprint(public)
        self._jwks = {"keys": [{"kid": self._kid, "use": "sig", **public}]}
        self._keys = read_jwks(json.dumps(self._jwks).encode())
        self._codes: dict[str, tuple[float, User, CodeRequest]] = {}

    def jwks(self) -> dict[str, Any]:
        return self._jwks

    async def find(self, kid: str) -> Mapping[str, Key] | None:
        return self._keys.get(kid)

    async def check(self) -> None:
        return

    def authenticate(self, name: str, password: str) -> User | None:
        """Takes the same time whether the name or the password is wrong."""
        right = hmac.compare_digest(password.encode(), PASSWORD.encode())
        return USERS.get(name) if right else None

    def issue(self, user: User, scope: str, nonce: str | None = None) -> dict[str, Any]:
        """A token response (RFC 6749, section 5.1). An ID token is in it where the scope has `openid`."""
        openid = "openid" in scope.split()
        granted = "openid profile email" if openid else "profile email"
        person = {
            "preferred_username": user.name,
            "name": f"{user.given_name} {user.family_name}",
            "given_name": user.given_name,
            "family_name": user.family_name,
            "email": f"{user.name}@example.com",
            "email_verified": True,
        }
        access = self._sign(
            user, "Bearer", ACCESS_SECONDS, aud=[self.client_id], scope=granted, realm_access={"roles": list(user.roles)}, **person
        )
        response = {
            "access_token": access,
            "expires_in": ACCESS_SECONDS,
            "refresh_expires_in": REFRESH_SECONDS,
            "refresh_token": self._sign(user, "Refresh", REFRESH_SECONDS, aud=self.url, scope=granted),
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": granted,
        }
        if openid:
            half = hashlib.sha256(access.encode()).digest()[:16]  # OpenID Connect Core, section 3.1.3.6
            optional = {} if nonce is None else {"nonce": nonce}
            response["id_token"] = self._sign(
                user, "ID", ACCESS_SECONDS, aud=self.client_id, at_hash=_base64url(half), **person, **optional
            )
        return response

    def refresh(self, token: str) -> dict[str, Any] | None:
        """A new token response; None where this is no valid refresh token of this issuer."""
        try:
            claims = json.loads(jws.verify(token, self._public_key, [ALGORITHM]))
        except (JOSEError, ValueError, RecursionError):
            return None
        user = next((user for user in USERS.values() if user.subject == claims["sub"]), None)
        if user is None or claims["iss"] != self.url or claims["typ"] != "Refresh" or claims["exp"] <= self._clock():
            return None
        return self.issue(user, claims["scope"])

    def new_code(self, user: User, request: CodeRequest) -> str:
        """An authorization code, good once and for a minute. Of very many the oldest are forgotten."""
        if len(self._codes) >= MAX_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(32)
        self._codes[code] = (self._clock() + CODE_SECONDS, user, request)
        return code

    def redeem(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any] | None:
        """A token response; None where the code is unknown, used, too old, or not this client's. Trying uses it up."""
        expires, user, request = self._codes.pop(code, (0.0, None, None))
        if user is None or request is None or expires <= self._clock() or redirect_uri != request.redirect_uri:
            return None
        challenge = _base64url(hashlib.sha256(verifier.encode()).digest())
        if not hmac.compare_digest(challenge, request.challenge):
            return None
        return self.issue(user, request.scope, request.nonce)

    def _sign(self, user: User, typ: str, lifetime_seconds: int, **claims: Any) -> str:
        now = int(self._clock())
        common = {
            "exp": now + lifetime_seconds,
            "iat": now,
            "jti": str(uuid4()),
            "iss": self.url,
            "sub": user.subject,
            "typ": typ,
            "azp": self.client_id,
        }
        return jws.sign(common | claims, self._key, {"kid": self._kid}, ALGORITHM)


def _stored_key(path: Path) -> Key:
    """The signing key, made at the first start. The file appears whole or not at all, for its owner alone."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pem = rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise WrongConfiguration("DATA_DIR", f"cannot keep a signing key in {path}: {error}") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_RSA_BITS:
        raise WrongConfiguration("DATA_DIR", f"{path} is no RSA key of {MIN_RSA_BITS} bits; delete it and a new one is made")
    return CryptographyRSAKey(key, ALGORITHM)


def _thumbprint(public: dict[str, Any]) -> str:
    """RFC 7638: the same key has the same id wherever it is computed."""
    required = {name: public[name] for name in ("e", "kty", "n")}
    return _base64url(hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
