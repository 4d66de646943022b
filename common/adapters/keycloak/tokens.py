"""Judges access tokens of one Keycloak realm.

Promises that only a signature by a key of the realm's own key set counts, by an algorithm that this key may be used with: nothing
a token's header says can add a key or choose an algorithm outside the list. Each refusal's detail is short printable ASCII
without quotes or backslashes, fit for a `WWW-Authenticate` header, and repeats nothing of the token.
Does not ask Keycloak about a token: one that was revoked is good until it expires.

A token that was found good is known again by its SHA-256, so that its signature is not checked with each request. What can change
about it is looked at each time: its key, and the time. So it is refused exactly when it would be if nobody had seen it before.
"""

import base64
import hashlib
import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jose.backends.base import Key

from common.adapters.keycloak.keys import EC_ALGORITHMS, RSA_ALGORITHMS, KeySource
from common.errors import Unauthorized
from common.images import Principal

LEEWAY_SECONDS = 10
MAX_TOKEN_CHARACTERS = 16_384
# Some 10 MB of them, as Keycloak makes them.
MAX_KNOWN_TOKENS = 10_000

# RFC 7515, section 7.1: three parts of base64url without padding. Python's decoder would skip over other characters.
COMPACT_JWS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Good:
    """What made a token good, and whom it speaks for. `begins` and `expires`: seconds since 1970, without leeway."""

    kid: str
    algorithm: str
    key: Key
    begins: float
    expires: float
    principal: Principal


class KeycloakTokenVerifier:
    """`clock` gives seconds since 1970. `known_tokens`: how many good tokens are known again, those that were used last."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        keys: KeySource,
        clock: Callable[[], float] = time.time,
        known_tokens: int = MAX_KNOWN_TOKENS,
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._keys = keys
        self._clock = clock
        self._known_tokens = known_tokens
        # By digest; the one that was used last is the last one.
        self._known: OrderedDict[bytes, _Good] = OrderedDict()

    async def verify(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthorized("The token is too large.")
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        good = self._known.pop(digest, None)
        if good is None or not await self._is_still(good):
            good = await self._judge(token)
        self._known[digest] = good
        if len(self._known) > self._known_tokens:
            self._known.popitem(last=False)
        return good.principal

    async def check(self) -> None:
        await self._keys.check()

    async def _is_still(self, good: _Good) -> bool:
        """Whether its key is the very one that was fetched last, and its time has neither ended nor, by a clock that was put back,
        yet to come."""
        keys = await self._keys.find(good.kid)
        if keys is None or keys.get(good.algorithm) is not good.key:
            return False
        now = self._clock()
        return good.begins <= now + LEEWAY_SECONDS and now < good.expires + LEEWAY_SECONDS

    async def _judge(self, token: str) -> _Good:
        parts = COMPACT_JWS.fullmatch(token)
        if parts is None:
            raise Unauthorized("The token is not a signed JWT.")
        header = _object(parts[1])
        key = await self._key(header)
        if not key.verify(token[: parts.end(2)].encode(), _decode(parts[3])):
            raise Unauthorized("The signature of the token is wrong.")
        claims = _object(parts[2])
        self._judge_purpose(header, claims)
        begins, expires = self._judge_times(claims)
        principal = Principal(subject=_subject(claims), roles=_roles(claims))
        return _Good(kid=header["kid"], algorithm=header["alg"], key=key, begins=begins, expires=expires, principal=principal)

    async def _key(self, header: dict[str, Any]) -> Key:
        """By the algorithm and the key id alone: keys and addresses that the header brings along are never looked at."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in (*RSA_ALGORITHMS, *EC_ALGORITHMS):
            raise Unauthorized("The signing algorithm of the token is not accepted.")
        # RFC 7515, section 4.1.11; RFC 7797, section 7: no JWT has an unencoded payload.
        if "crit" in header or "b64" in header:
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

    def _judge_purpose(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise Unauthorized("The token is from another issuer.")
        if not _is_access_token(header, claims):
            raise Unauthorized("The token is not an access token.")
        if "cnf" in claims:
            # RFC 7800: good only beside a proof (DPoP, a client certificate), and nobody here looks for one.
            raise Unauthorized("The token is bound to a key, which is not supported.")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if self._client_id not in (*audiences, claims.get("azp")):
            raise Unauthorized("The token is for another client.")

    def _judge_times(self, claims: dict[str, Any]) -> tuple[float, float]:
        """→ when the token begins to be good, and when it expires."""
        now = self._clock()
        expires = _time(claims, "exp")
        if expires is None:
            raise Unauthorized("The token has no expiry time.")
        if now >= expires + LEEWAY_SECONDS:
            raise Unauthorized("The token has expired.")
        begins = max(_time(claims, "nbf") or 0, _time(claims, "iat") or 0)
        if begins > now + LEEWAY_SECONDS:
            raise Unauthorized("The token is not valid yet.")
        return begins, expires


def _decode(part: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise Unauthorized("The token is not a signed JWT.") from None
    # Bits that the decoder drops would let one token be written in several ways.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise Unauthorized("The token is not a signed JWT.")
    return decoded


def _object(part: str) -> dict[str, Any]:
    """A JSON object from a token. Numbers and nesting beyond what Python takes raise like any other garbage."""
    try:
        value = json.loads(_decode(part).decode(), parse_constant=_no_constant, object_pairs_hook=_each_name_once)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unauthorized("The token is not a signed JWT.")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7515, section 4, and RFC 7519, section 4, allow this; the other choice leaves it to each reader which one counts."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is there twice")
    return value


def _is_access_token(header: dict[str, Any], claims: dict[str, Any]) -> bool:
    """Keycloak says it in a claim: Bearer, where other tokens have ID, Refresh, Offline, Logout. RFC 9068 says it in the header,
    where a token that names another kind is refused whatever its claims are (RFC 8725, section 3.11)."""
    kind = header.get("typ", "JWT")
    kind = kind.lower().removeprefix("application/") if isinstance(kind, str) else None
    if "typ" in claims:
        return claims["typ"] == "Bearer" and kind in ("jwt", "at+jwt")
    return kind == "at+jwt"


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
