"""Tokens and key sets made with `cryptography` alone, so that they come from another program than the one under test."""

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NOW = 1_800_000_000
ISSUER = "http://localhost:8080/realms/ImageProcessor"
CLIENT = "api-gateway-client"
SUBJECT = "5f1e0a52-7d0c-4a55-9a0e-3b1f6c2d0001"

RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
P384_KEY = ec.generate_private_key(ec.SECP384R1())
HASHES: Mapping[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
PEM = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = RSA_KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_jwk(key: rsa.RSAPrivateKey, kid: str, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": kid, "use": "sig", "n": number(numbers.n), "e": number(numbers.e), **more}


def ec_jwk(kid: str, **more: Any) -> dict[str, Any]:
    numbers = EC_KEY.public_key().public_numbers()
    point = {"x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
    return {"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", **point, **more}


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signature(algorithm: str, message: bytes, key: rsa.RSAPrivateKey = RSA_KEY) -> bytes:
    hash_ = HASHES.get(algorithm[2:], hashes.SHA256())
    match algorithm[:2]:
        case "PS":
            return key.sign(message, padding.PSS(padding.MGF1(hash_), hash_.digest_size), hash_)
        case "ES":
            r, s = decode_dss_signature(EC_KEY.sign(message, ec.ECDSA(hash_)))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        case _:
            return key.sign(message, padding.PKCS1v15(), hash_)


def der_signature(message: bytes) -> bytes:
    return EC_KEY.sign(message, ec.ECDSA(hashes.SHA256()))


def p384_signature(message: bytes) -> bytes:
    r, s = decode_dss_signature(P384_KEY.sign(message, ec.ECDSA(hashes.SHA384())))
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def raw_token(header: bytes, payload: bytes, sign: Callable[[bytes], bytes] = lambda m: signature("RS256", m)) -> str:
    message = f"{b64(header)}.{b64(payload)}"
    return f"{message}.{b64(sign(message.encode()))}"


MISSING = object()


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (values | changes).items() if value is not MISSING}


def claims(**changes: Any) -> bytes:
    values = {
        "iss": ISSUER,
        "aud": [CLIENT, "account"],
        "azp": CLIENT,
        "sub": SUBJECT,
        "typ": "Bearer",
        "exp": NOW + 300,
        "iat": NOW,
        "realm_access": {"roles": ["user", "admin"]},
    }
    return json.dumps(changed(values, changes)).encode()


def header(**changes: Any) -> bytes:
    return json.dumps(changed({"alg": "RS256", "typ": "JWT", "kid": "rsa"}, changes)).encode()


def with_claims(**changes: Any) -> str:
    return raw_token(header(), claims(**changes))


def with_header(**changes: Any) -> str:
    return raw_token(header(**changes), claims())


def signed(algorithm: str, kid: str, **how: Any) -> str:
    return raw_token(header(alg=algorithm, kid=kid), claims(), lambda m: signature(algorithm, m, **how))


def hmac_signed(secret: bytes, algorithm: str = "HS256") -> str:
    return raw_token(header(alg=algorithm), claims(), lambda m: hmac.digest(secret, m, f"sha{algorithm[2:]}"))
