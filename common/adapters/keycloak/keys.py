"""A realm's public keys, read from its key set, each with the algorithms it may be used with.

Promises that a key is used for nothing else than what the set says of it, and that weak keys, and private halves, are left out.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from jose import jwk
from jose.backends.base import Key
from jose.backends.cryptography_backend import CryptographyRSAKey
from jose.exceptions import JOSEError

from common.telemetry import log

RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256")
EC_ALGORITHMS = ("ES256",)
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3
MAX_RSA_BITS = 8192

# By `kid`, then by each algorithm the key may be used with.
Keys = Mapping[str, Mapping[str, Key]]


class KeySource(Protocol):
    """Where the realm's keys come from."""

    async def find(self, kid: str) -> Mapping[str, Key] | None:
        """The key by each algorithm it may be used with; None if the realm has no such key. Raises Unavailable if none were
        ever had."""

    async def check(self) -> None: ...


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
