"""Judges access tokens of one Keycloak realm, and keeps the realm's public keys.

Promises that only a signature by a key of the realm's own key set counts, by an algorithm that this key may be used with: nothing
a token's header says can add a key or choose an algorithm outside the list. Each refusal's detail is short printable ASCII
without quotes or backslashes, fit for a `WWW-Authenticate` header, and repeats nothing of the token.
Does not ask Keycloak about a token: one that was revoked is good until it expires.
"""

import asyncio
import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from jose import jwk
from jose.backends.base import Key
from jose.backends.cryptography_backend import CryptographyRSAKey
from jose.exceptions import JOSEError

from common.errors import Unauthorized, Unavailable
from common.images import Principal
from common.loopback import DIRECT
from common.telemetry import JWKS_FETCHES, log

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256")
EC_ALGORITHMS = ("ES256",)
LEEWAY_SECONDS = 10
MAX_TOKEN_CHARACTERS = 16_384
MAX_JWKS_BYTES = 262_144
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
MAX_RSA_BITS = 8192

# RFC 7515, section 7.1: three parts of base64url without padding. Python's decoder would skip over other characters.
COMPACT_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

# By `kid`, then by each algorithm the key may be used with.
Keys = Mapping[str, Mapping[str, Key]]


class KeySource(Protocol):
    """Where the realm's keys come from."""

    async def find(self, kid: str) -> Mapping[str, Key] | None:
        """The key by each algorithm it may be used with; None if the realm has no such key. Raises Unavailable if none were
        ever had."""

    async def check(self) -> None: ...


class KeycloakTokenVerifier:
    """`clock` gives seconds since 1970."""

    def __init__(self, issuer: str, client_id: str, keys: KeySource, clock: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._keys = keys
        self._clock = clock

    async def verify(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthorized("The token is too large.")
        parts = COMPACT_JWS.fullmatch(token)
        if parts is None:
            raise Unauthorized("The token is not a signed JWT.")
        header = _object(parts[1])
        key = await self._key(header)
        if not key.verify(token[: parts.end(2)].encode(), _decode(parts[3])):
            raise Unauthorized("The signature of the token is wrong.")
        claims = _object(parts[2])
        self._judge(header, claims)
        return Principal(subject=_subject(claims), roles=_roles(claims))

    async def check(self) -> None:
        await self._keys.check()

    async def _key(self, header: dict[str, Any]) -> Key:
        """By the algorithm and the key id alone: keys and addresses that the header brings along are never looked at."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in (*RSA_ALGORITHMS, *EC_ALGORITHMS):
            raise Unauthorized("The signing algorithm of the token is not accepted.")
        if "crit" in header:
            raise Unauthorized("The token asks for extensions that are not supported.")
        if not isinstance(kid, str):
            raise Unauthorized("The token does not name its key.")
        found = await self._keys.find(kid)
        if found is None:
            raise Unauthorized("The token is signed by an unknown key.")
        if algorithm not in found:
            raise Unauthorized("The signing algorithm of the token does not match its key.")
        key: Key = found[algorithm]
        return key

    def _judge(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise Unauthorized("The token is from another issuer.")
        if not _is_access_token(header, claims):
            raise Unauthorized("The token is not an access token.")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._client_id not in (*audiences, claims.get("azp")):
            raise Unauthorized("The token is for another client.")
        now = self._clock()
        expires = _time(claims, "exp")
        if expires is None:
            raise Unauthorized("The token has no expiry time.")
        if now >= expires + LEEWAY_SECONDS:
            raise Unauthorized("The token has expired.")
        for name in ("nbf", "iat"):
            begins = _time(claims, name)
            if begins is not None and begins > now + LEEWAY_SECONDS:
                raise Unauthorized("The token is not valid yet.")


def _decode(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise Unauthorized("The token is not a signed JWT.") from None


def _object(part: str) -> dict[str, Any]:
    """A JSON object from a token. Numbers and nesting beyond what Python takes raise like any other garbage."""
    try:
        value = json.loads(_decode(part).decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unauthorized("The token is not a signed JWT.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_access_token(header: dict[str, Any], claims: dict[str, Any]) -> bool:
    """Keycloak says it in a claim: Bearer, where other tokens have ID, Refresh, Offline, Logout. RFC 9068 says it in the header."""
    if "typ" in claims:
        return bool(claims["typ"] == "Bearer")
    return header.get("typ") in ("at+jwt", "application/at+jwt")


def _time(claims: dict[str, Any], name: str) -> int | float | None:
    value = claims.get(name)
    if name not in claims or (type(value) is int or (type(value) is float and math.isfinite(value))):
        return value
    raise Unauthorized(f"The claim {name} of the token is not a time.")


def _subject(claims: dict[str, Any]) -> str:
    """OpenID Connect Core, section 2: at most 255 ASCII characters. It becomes a database value and a log field."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isascii() or not subject.isprintable():
        raise Unauthorized("The token does not say whom it is for.")
    return subject


def _roles(claims: dict[str, Any]) -> frozenset[str]:
    access = claims.get("realm_access")
    roles = access.get("roles") if isinstance(access, dict) else None
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()


class PssKey(CryptographyRSAKey):
    """PS256, which python-jose lacks: RSASSA-PSS with SHA-256 and a salt as long as the hash (RFC 7518, section 3.5)."""

    def __init__(self, key: dict[str, Any]) -> None:
        super().__init__(key, "RS256")

    def verify(self, msg: bytes, sig: bytes) -> bool:
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
        try:
            self.prepared_key.verify(sig, msg, pss, hashes.SHA256())
        except InvalidSignature:
            return False
        return True


def read_jwks(document: bytes) -> Keys:
    """The usable signing keys of a JWK set (RFC 7517); others are left out. Raises ValueError where there is none."""
    try:
        entries = json.loads(document)["keys"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no JWK set: {error!r}") from None
    keys: dict[str, Mapping[str, Key]] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("kid"), str) and entry.get("use", "sig") == "sig":
            by_algorithm = _construct(entry)
            if by_algorithm:
                keys.setdefault(entry["kid"], by_algorithm)
    if not keys:
        raise ValueError("the JWK set has no usable signing key")
    return keys


def _construct(entry: dict[str, Any]) -> Mapping[str, Key]:
    """Only the public numbers are taken. A key that names an algorithm is used with that one alone."""
    kty, only = entry.get("kty"), entry.get("alg")
    algorithms: tuple[str, ...]
    if kty == "RSA":
        public, algorithms = {name: entry.get(name) for name in ("kty", "n", "e")}, RSA_ALGORITHMS
    elif kty == "EC" and entry.get("crv") == "P-256":
        public, algorithms = {name: entry.get(name) for name in ("kty", "crv", "x", "y")}, EC_ALGORITHMS
    else:
        return {}
    if not all(isinstance(value, str) for value in public.values()):
        return {}
    try:
        keys = {
            name: PssKey(public) if name == "PS256" else jwk.construct(public, name)
            for name in algorithms
            if only is None or only == name
        }
    except (JOSEError, ValueError, TypeError) as error:
        log.warning("a key of the realm cannot be used", reason=str(error))
        return {}
    sizes = [key.prepared_key.key_size for key in keys.values() if isinstance(key, CryptographyRSAKey)]
    return keys if all(MIN_RSA_BITS <= size <= MAX_RSA_BITS for size in sizes) else {}


class RemoteJwks:
    """The realm's keys, fetched over HTTP when first needed and kept.

    At most one fetch runs at a time, and none starts within `cooldown_seconds` of the last one's end, whatever tokens arrive and
    however that fetch ended. A token whose key is known never waits for a fetch. A fetch that fails leaves the keys as they were,
    however old. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        url: str,
        refresh_seconds: float,
        cooldown_seconds: float,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._refresh_seconds = refresh_seconds
        self._cooldown_seconds = cooldown_seconds
        self._timeout_seconds = timeout_seconds
        self._clock = clock
        self._keys: Keys | None = None
        self._fetched_at = -math.inf
        self._next_fetch_at = -math.inf
        self._failure = "not asked yet"
        self._fetching: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(timeout=timeout_seconds, headers={"Accept-Encoding": "identity"}, mounts=DIRECT)

    async def find(self, kid: str) -> Mapping[str, Key] | None:
        if self._keys is None or kid not in self._keys:
            await self._fetched()
        elif self._clock() >= self._fetched_at + self._refresh_seconds:
            self._start_fetch()
        if self._keys is None:
            raise Unavailable("identity provider", self._failure)
        return self._keys.get(kid)

    async def check(self) -> None:
        """Stale keys judge tokens as well as fresh ones, so only having none at all is a failure."""
        if self._keys is None:
            await self._fetched()
        if self._keys is None:
            raise Unavailable("identity provider", self._failure)

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        await self._client.aclose()

    async def _fetched(self) -> None:
        """Waits for the fetch that runs or may be started, if any. Giving up waiting does not end it for the others."""
        self._start_fetch()
        if self._fetching is not None:
            await asyncio.wait([self._fetching])

    def _start_fetch(self) -> None:
        if self._fetching is None and self._clock() >= self._next_fetch_at:
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                self._keys = read_jwks(await self._download())
            self._fetched_at = self._clock()
            JWKS_FETCHES.labels("ok").inc()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            self._failure = f"{self._url}: {error!r}"
            JWKS_FETCHES.labels("failed").inc()
            log.warning("the realm's keys could not be fetched", reason=self._failure, have_keys=self._keys is not None)
        finally:
            self._next_fetch_at = self._clock() + self._cooldown_seconds
            self._fetching = None

    async def _download(self) -> bytes:
        body = bytearray()
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"HTTP status {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_JWKS_BYTES:
                    raise ValueError(f"more than {MAX_JWKS_BYTES} bytes")
        return bytes(body)
