"""Tokens by name: those that are refused, each with the reason that is given, and those that are good, each with its roles.

The verifier is held to the table alone, and the whole gateway once more.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

from jose.backends.base import Key

from common.adapters.keycloak import KeycloakTokenVerifier
from common.adapters.keycloak.keys import Keys, read_jwks
from tests.minting import (
    CLIENT,
    DER,
    ISSUER,
    MISSING,
    NOW,
    OTHER_RSA_KEY,
    PEM,
    RSA_KEY,
    b64,
    claims,
    der_signature,
    ec_jwk,
    header,
    hmac_signed,
    jwks,
    p384_signature,
    raw_token,
    rsa_jwk,
    signature,
    signed,
    with_claims,
    with_header,
)

KEYS = read_jwks(
    jwks(
        rsa_jwk(RSA_KEY, "rsa"),
        rsa_jwk(RSA_KEY, "rsa-256-only", alg="RS256"),
        rsa_jwk(RSA_KEY, "pss", alg="PS256"),
        rsa_jwk(RSA_KEY, "encryption", use="enc"),
        ec_jwk("ec"),
        ec_jwk("ec-256", alg="ES256"),
    )
)


class FixedKeys:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def find(self, kid: str) -> Mapping[str, Key] | None:
        return self._keys.get(kid)

    async def check(self) -> None: ...


def verifier_of_the_table() -> KeycloakTokenVerifier:
    return KeycloakTokenVerifier(ISSUER, CLIENT, FixedKeys(KEYS), clock=lambda: NOW)


GOOD_TOKEN = with_claims()
HEAD, PAYLOAD, SIGNATURE = GOOD_TOKEN.split(".")
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def signed_as(**changes: Any) -> str:
    return raw_token(header(**changes), claims(), lambda m: signature("RS256", m, OTHER_RSA_KEY))


def with_raw_claim(name: str, text: bytes) -> str:
    """Of what Python would not write as JSON."""
    return raw_token(header(), claims(**{name: "RAW"}).replace(b'"RAW"', text))


def with_payload(payload: bytes) -> str:
    return raw_token(header(), payload)


def next_character(character: str) -> str:
    return ALPHABET[(ALPHABET.index(character) + 1) % len(ALPHABET)]


NOT_A_JWT = "The token is not a signed JWT."
BAD_ALGORITHM = "The signing algorithm of the token is not accepted."
OTHER_ALGORITHM = "The signing algorithm of the token does not match its key."
EXTENSIONS = "The token asks for extensions that are not supported."
NO_KEY = "The token does not name its key."
UNKNOWN_KEY = "The token is signed by an unknown key."
BAD_SIGNATURE = "The signature of the token is wrong."
OTHER_ISSUER = "The token is from another issuer."
OTHER_CLIENT = "The token is for another client."
NOT_ACCESS = "The token is not an access token."
BOUND = "The token is bound to a key, which is not supported."
EXPIRED = "The token has expired."
NOT_YET = "The token is not valid yet."
NO_SUBJECT = "The token does not say whom it is for."
NO_EXPIRY = "The token has no expiry time."
BAD_EXP, BAD_NBF, BAD_IAT = (f"The claim {name} of the token is not a time." for name in ("exp", "nbf", "iat"))
TOO_LARGE = "The token is too large."
ATTACKER_JWK = rsa_jwk(OTHER_RSA_KEY, "rsa")

ALGORITHMS = {
    "alg none, unsigned": (f"{b64(header(alg='none'))}.{b64(claims())}.", NOT_A_JWT),
    "alg none, with a signature": (with_header(alg="none"), BAD_ALGORITHM),
    "alg None": (with_header(alg="None"), BAD_ALGORITHM),
    "alg NONE": (with_header(alg="NONE"), BAD_ALGORITHM),
    "alg nOnE": (with_header(alg="nOnE"), BAD_ALGORITHM),
    "alg null": (with_header(alg=None), BAD_ALGORITHM),
    "alg empty": (with_header(alg=""), BAD_ALGORITHM),
    "alg missing": (with_header(alg=MISSING), BAD_ALGORITHM),
    "alg in lower case": (with_header(alg="rs256"), BAD_ALGORITHM),
    "alg a list": (with_header(alg=["RS256"]), BAD_ALGORITHM),
    "alg outside the list, PS384": (signed("PS384", "rsa"), BAD_ALGORITHM),
    "alg outside the list, ES384": (raw_token(header(alg="ES384", kid="ec"), claims(), p384_signature), BAD_ALGORITHM),
    "HS256 keyed with the PEM": (hmac_signed(PEM), BAD_ALGORITHM),
    "HS256 keyed with the PEM, stripped": (hmac_signed(PEM.strip()), BAD_ALGORITHM),
    "HS256 keyed with the DER": (hmac_signed(DER), BAD_ALGORITHM),
    "HS256 keyed with the JWK's modulus": (hmac_signed(rsa_jwk(RSA_KEY, "rsa")["n"].encode()), BAD_ALGORITHM),
    "HS256 keyed with the JWK's modulus, decoded": (
        hmac_signed(base64.urlsafe_b64decode(rsa_jwk(RSA_KEY, "rsa")["n"] + "==")),
        BAD_ALGORITHM,
    ),
    "HS256 keyed with nothing": (hmac_signed(b""), BAD_ALGORITHM),
    "HS512 keyed with the PEM": (hmac_signed(PEM, "HS512"), BAD_ALGORITHM),
    "HMAC with the PEM that calls itself RS256": (hmac_signed(PEM, "RS256"), BAD_SIGNATURE),
    "RSA key with alg ES256": (with_header(alg="ES256"), OTHER_ALGORITHM),
    "EC key with alg RS256": (with_header(kid="ec"), OTHER_ALGORITHM),
    "EC key with alg PS256": (with_header(kid="ec", alg="PS256"), OTHER_ALGORITHM),
    "EC signature on another curve": (raw_token(header(alg="ES256", kid="ec"), claims(), p384_signature), BAD_SIGNATURE),
    "key for RS256 alone with RS512": (signed("RS512", "rsa-256-only"), OTHER_ALGORITHM),
    "key for RS256 alone with PS256": (signed("PS256", "rsa-256-only"), OTHER_ALGORITHM),
    "PKCS1 signature called PS256": (with_header(alg="PS256"), BAD_SIGNATURE),
    "PSS signature called RS256": (
        raw_token(header(), claims(), lambda m: signature("PS256", m)),
        BAD_SIGNATURE,
    ),
    "RS256 signature called RS512": (with_header(alg="RS512"), BAD_SIGNATURE),
}

HEADERS = {
    "kid unknown": (with_header(kid="unknown"), UNKNOWN_KEY),
    "kid missing": (with_header(kid=MISSING), NO_KEY),
    "kid null": (with_header(kid=None), NO_KEY),
    "kid a number": (with_header(kid=1), NO_KEY),
    "kid a list": (with_header(kid=["rsa"]), NO_KEY),
    "kid an object": (with_header(kid={"rsa": "rsa"}), NO_KEY),
    "kid path-like, ../../dev/null": (with_header(kid="../../../../dev/null"), UNKNOWN_KEY),
    "kid path-like, /etc/passwd": (with_header(kid="/etc/passwd"), UNKNOWN_KEY),
    "kid path-like, file://": (with_header(kid="file:///dev/null"), UNKNOWN_KEY),
    "kid an address": (with_header(kid="http://attacker.example/key"), UNKNOWN_KEY),
    "kid SQL-like": (with_header(kid="rsa' UNION SELECT 'key"), UNKNOWN_KEY),
    "kid very long": (with_header(kid="rsa" * 3000), UNKNOWN_KEY),
    "kid in other case": (with_header(kid="RSA"), UNKNOWN_KEY),
    "kid with a space after it": (with_header(kid="rsa "), UNKNOWN_KEY),
    "kid empty": (with_header(kid=""), UNKNOWN_KEY),
    "kid with NUL": (with_header(kid="rsa\0"), UNKNOWN_KEY),
    "kid with a lone surrogate": (with_header(kid="\ud800"), UNKNOWN_KEY),
    "kid of a key for encryption": (with_header(kid="encryption"), UNKNOWN_KEY),
    "kid of a key in another realm": (signed_as(kid="their-key"), UNKNOWN_KEY),
    "key of another realm under our kid": (signed_as(), BAD_SIGNATURE),
    "embedded jwk": (signed_as(jwk=ATTACKER_JWK), BAD_SIGNATURE),
    "embedded jwk, no kid": (signed_as(jwk=ATTACKER_JWK, kid=MISSING), NO_KEY),
    "embedded jwk, its own kid": (signed_as(jwk=ATTACKER_JWK | {"kid": "mine"}, kid="mine"), UNKNOWN_KEY),
    "embedded jku": (signed_as(jku="http://attacker.example/jwks"), BAD_SIGNATURE),
    "embedded jku, its own kid": (signed_as(jku="http://attacker.example/jwks", kid="mine"), UNKNOWN_KEY),
    "embedded x5u": (signed_as(x5u="http://attacker.example/cert"), BAD_SIGNATURE),
    "embedded x5c": (signed_as(x5c=[base64.b64encode(DER).decode()]), BAD_SIGNATURE),
    "crit": (with_header(crit=["exp"]), EXTENSIONS),
    "crit empty": (with_header(crit=[]), EXTENSIONS),
    "b64 false": (with_header(b64=False), EXTENSIONS),
    "b64 false and crit": (with_header(b64=False, crit=["b64"]), EXTENSIONS),
    "header typ of a logout token": (with_header(typ="logout+jwt"), NOT_ACCESS),
    "header typ of a DPoP proof": (with_header(typ="dpop+jwt"), NOT_ACCESS),
    "header typ a number": (with_header(typ=7), NOT_ACCESS),
    "header typ null": (with_header(typ=None), NOT_ACCESS),
    "alg twice": (raw_token(b'{"alg":"none",' + header()[1:], claims()), NOT_A_JWT),
    "header no JSON": (raw_token(b"{alg:RS256}", claims()), NOT_A_JWT),
    "header a list": (raw_token(b'["RS256"]', claims()), NOT_A_JWT),
    "header a string": (raw_token(b'"RS256"', claims()), NOT_A_JWT),
    "header not UTF-8": (raw_token(b'{"alg":"\xff"}', claims()), NOT_A_JWT),
    "header nested too deep": (raw_token(b"[" * 8000, b"{}"), NOT_A_JWT),
}

ISSUERS_AND_AUDIENCES = {
    "wrong issuer": (with_claims(iss="http://localhost:8080/realms/master"), OTHER_ISSUER),
    "issuer with a trailing slash": (with_claims(iss=f"{ISSUER}/"), OTHER_ISSUER),
    "issuer in other case": (with_claims(iss=ISSUER.upper()), OTHER_ISSUER),
    "issuer's realm in other case": (with_claims(iss=ISSUER.lower()), OTHER_ISSUER),
    "issuer on another host": (with_claims(iss=ISSUER.replace("localhost", "127.0.0.1")), OTHER_ISSUER),
    "issuer that begins with ours": (with_claims(iss=f"{ISSUER}2"), OTHER_ISSUER),
    "issuer in a list": (with_claims(iss=[ISSUER]), OTHER_ISSUER),
    "issuer null": (with_claims(iss=None), OTHER_ISSUER),
    "no issuer": (with_claims(iss=MISSING), OTHER_ISSUER),
    "no aud, no azp": (with_claims(aud=MISSING, azp=MISSING), OTHER_CLIENT),
    "no aud, other azp": (with_claims(aud=MISSING, azp="other-client"), OTHER_CLIENT),
    "aud null, azp null": (with_claims(aud=None, azp=None), OTHER_CLIENT),
    "aud empty": (with_claims(aud=[], azp=MISSING), OTHER_CLIENT),
    "other aud": (with_claims(aud="account", azp=MISSING), OTHER_CLIENT),
    "aud a list without ours": (with_claims(aud=["account", "broker"], azp=MISSING), OTHER_CLIENT),
    "token of another client": (with_claims(aud="account", azp="other-client"), OTHER_CLIENT),
    "aud contains ours as a part": (with_claims(aud=f"{CLIENT}-2", azp=MISSING), OTHER_CLIENT),
    "aud in other case": (with_claims(aud=CLIENT.upper(), azp=MISSING), OTHER_CLIENT),
    "aud an object": (with_claims(aud={CLIENT: 1}, azp=MISSING), OTHER_CLIENT),
    "aud a list in a list": (with_claims(aud=[[CLIENT]], azp=[CLIENT]), OTHER_CLIENT),
    "client_id alone": (with_claims(aud=MISSING, azp=MISSING, client_id=CLIENT), OTHER_CLIENT),
}

TIMES = {
    "no exp": (with_claims(exp=MISSING), NO_EXPIRY),
    "exp past": (with_claims(exp=NOW - 3600), EXPIRED),
    "exp past the leeway": (with_claims(exp=NOW - 10), EXPIRED),
    "exp zero": (with_claims(exp=0), EXPIRED),
    "exp negative": (with_claims(exp=-1), EXPIRED),
    "exp far below zero": (with_claims(exp=-(10**300)), EXPIRED),
    "exp a string": (with_claims(exp=str(NOW + 300)), BAD_EXP),
    "exp a boolean": (with_claims(exp=True), BAD_EXP),
    "exp null": (with_claims(exp=None), BAD_EXP),
    "exp a list": (with_claims(exp=[NOW + 300]), BAD_EXP),
    "exp NaN": (with_claims(exp=float("nan")), NOT_A_JWT),
    "exp Infinity": (with_claims(exp=float("inf")), NOT_A_JWT),
    "exp huge, 1e999": (with_raw_claim("exp", b"1e999"), BAD_EXP),
    "exp huge, 5000 digits": (with_raw_claim("exp", b"9" * 5000), NOT_A_JWT),
    "nbf ahead": (with_claims(nbf=NOW + 3600), NOT_YET),
    "nbf just ahead of the leeway": (with_claims(nbf=NOW + 11), NOT_YET),
    "nbf a string": (with_claims(nbf="0"), BAD_NBF),
    "nbf null": (with_claims(nbf=None), BAD_NBF),
    "nbf Infinity": (with_claims(nbf=float("-inf")), NOT_A_JWT),
    "nbf huge, -1e999": (with_raw_claim("nbf", b"-1e999"), BAD_NBF),
    "iat far ahead": (with_claims(iat=NOW + 3600), NOT_YET),
    "iat just ahead of the leeway": (with_claims(iat=NOW + 11), NOT_YET),
    "iat a boolean": (with_claims(iat=False), BAD_IAT),
    "iat a string": (with_claims(iat=str(NOW)), BAD_IAT),
    "iat NaN": (with_claims(iat=float("nan")), NOT_A_JWT),
}

KINDS = {
    "ID token": (with_claims(typ="ID"), NOT_ACCESS),
    "ID token with an access token's header": (raw_token(header(typ="at+jwt"), claims(typ="ID")), NOT_ACCESS),
    "refresh token": (with_claims(typ="Refresh"), NOT_ACCESS),
    "offline token": (with_claims(typ="Offline"), NOT_ACCESS),
    "logout token": (with_claims(typ="Logout"), NOT_ACCESS),
    "DPoP token": (with_claims(typ="DPoP"), NOT_ACCESS),
    "token without a type": (with_claims(typ=MISSING), NOT_ACCESS),
    "token with a null type": (with_claims(typ=None), NOT_ACCESS),
    "null type with an access token's header": (raw_token(header(typ="at+jwt"), claims(typ=None)), NOT_ACCESS),
    "type in lower case": (with_claims(typ="bearer"), NOT_ACCESS),
    "type in a list": (with_claims(typ=["Bearer"]), NOT_ACCESS),
    "token bound to a client certificate": (with_claims(cnf={"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}), BOUND),
    "token bound to a DPoP key": (with_claims(cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}), BOUND),
}

SUBJECTS = {
    "no sub": (with_claims(sub=MISSING), NO_SUBJECT),
    "sub empty": (with_claims(sub=""), NO_SUBJECT),
    "sub null": (with_claims(sub=None), NO_SUBJECT),
    "sub a number": (with_claims(sub=7), NO_SUBJECT),
    "sub a list": (with_claims(sub=["alice"]), NO_SUBJECT),
    "sub with NUL": (with_claims(sub="a\0b"), NO_SUBJECT),
    "sub with a lone surrogate": (with_claims(sub="\ud800"), NO_SUBJECT),
    "sub with a line feed": (with_claims(sub="a\nb"), NO_SUBJECT),
    "sub not ASCII": (with_claims(sub="ren\u00e9"), NO_SUBJECT),
    "sub too long": (with_claims(sub="a" * 256), NO_SUBJECT),
    "sub twice": (with_payload(b'{"sub":"alice",' + claims()[1:]), NOT_A_JWT),
    "realm_access twice": (with_payload(b'{"realm_access":{"roles":["admin"]},' + claims()[1:]), NOT_A_JWT),
    "roles twice": (with_raw_claim("realm_access", b'{"roles":[],"roles":["admin"]}'), NOT_A_JWT),
}

FORMS = {
    "tampered payload": (f"{HEAD}.{b64(claims(realm_access={'roles': ['admin']}))}.{SIGNATURE}", BAD_SIGNATURE),
    "payload of another good token": (f"{HEAD}.{with_claims(sub='somebody-else').split('.')[1]}.{SIGNATURE}", BAD_SIGNATURE),
    "signature bytes altered": (f"{HEAD}.{PAYLOAD}.{next_character(SIGNATURE[0])}{SIGNATURE[1:]}", BAD_SIGNATURE),
    "signature stripped": (f"{HEAD}.{PAYLOAD}.", NOT_A_JWT),
    "signature stripped with its dot": (f"{HEAD}.{PAYLOAD}", NOT_A_JWT),
    "signature cut short": (f"{HEAD}.{PAYLOAD}.{SIGNATURE[:-6]}", BAD_SIGNATURE),
    "signature of an impossible length": (f"{HEAD}.{PAYLOAD}.A", NOT_A_JWT),
    "signature in non-canonical base64": (f"{GOOD_TOKEN[:-1]}{next_character(GOOD_TOKEN[-1])}", NOT_A_JWT),
    "signature in base64 instead of base64url": (
        f"{HEAD}.{PAYLOAD}.{SIGNATURE.replace('-', '+').replace('_', '/')}+",
        NOT_A_JWT,
    ),
    "ES256 signature all zero": (raw_token(header(alg="ES256", kid="ec"), claims(), lambda m: bytes(64)), BAD_SIGNATURE),
    "ES256 signature too short": (raw_token(header(alg="ES256", kid="ec"), claims(), lambda m: b"short"), BAD_SIGNATURE),
    "ES256 signature in DER": (raw_token(header(alg="ES256", kid="ec"), claims(), der_signature), BAD_SIGNATURE),
    "RS256 signature all zero": (raw_token(header(), claims(), lambda m: bytes(256)), BAD_SIGNATURE),
    "truncated in the payload": (f"{HEAD}.{PAYLOAD}"[:-5], NOT_A_JWT),
    "truncated in the header": (HEAD[:-5], NOT_A_JWT),
    "encrypted (JWE, five parts)": (f"{b64(header(alg='RSA-OAEP', enc='A256GCM'))}.a.b.c.d", NOT_A_JWT),
    "nested, a JWT as the payload": (raw_token(header(cty="JWT"), GOOD_TOKEN.encode()), NOT_A_JWT),
    "JSON serialization": (json.dumps({"protected": HEAD, "payload": PAYLOAD, "signature": SIGNATURE}), NOT_A_JWT),
    "opaque": ("0f3c9a7e", NOT_A_JWT),
    "dots alone": ("..", NOT_A_JWT),
    "padded": (f"{GOOD_TOKEN}==", NOT_A_JWT),
    "space inside": (f"{HEAD}. {PAYLOAD}.{SIGNATURE}", NOT_A_JWT),
    "tab inside": (f"{HEAD}.\t{PAYLOAD}.{SIGNATURE}", NOT_A_JWT),
    "line feed at its end": (f"{GOOD_TOKEN}\n", NOT_A_JWT),
    "NUL at its end": (f"{GOOD_TOKEN}\0", NOT_A_JWT),
    "control character at its end": (f"{GOOD_TOKEN}\x1f", NOT_A_JWT),
    "next-line character at its end": (f"{GOOD_TOKEN}\x85", NOT_A_JWT),
    "no-break space at its end": (f"{GOOD_TOKEN}\xa0", NOT_A_JWT),
    "characters that base64 decoders skip": (GOOD_TOKEN.replace(".", ".!"), NOT_A_JWT),
    "not ASCII": (f"{GOOD_TOKEN}\u00e9", NOT_A_JWT),
    "in quotes": (f'"{GOOD_TOKEN}"', NOT_A_JWT),
    "20 kB and well signed": (with_claims(filler="a" * 15_000), TOO_LARGE),
    "payload no JSON": (with_payload(b"hello"), NOT_A_JWT),
    "payload a list": (with_payload(b"[]"), NOT_A_JWT),
    "payload null": (with_payload(b"null"), NOT_A_JWT),
    "payload not UTF-8": (with_payload(b"\xff\xfe"), NOT_A_JWT),
    "payload nested too deep": (with_payload(b"[" * 8000), NOT_A_JWT),
}

REFUSED: dict[str, tuple[str, str]] = ALGORITHMS | HEADERS | ISSUERS_AND_AUDIENCES | TIMES | KINDS | SUBJECTS | FORMS

ROLES = {"user", "admin"}
GOOD: dict[str, tuple[str, set[str]]] = {
    "as Keycloak makes them": (GOOD_TOKEN, ROLES),
    **{f"signed with {alg}": (signed(alg, "rsa"), ROLES) for alg in ("RS256", "RS384", "RS512", "PS256")},
    "signed with ES256": (signed("ES256", "ec"), ROLES),
    "key for PS256 alone": (signed("PS256", "pss"), ROLES),
    "key for ES256 alone": (signed("ES256", "ec-256"), ROLES),
    "aud a string": (with_claims(aud=CLIENT, azp=MISSING), ROLES),
    "aud a list with ours": (with_claims(aud=["account", CLIENT], azp=MISSING), ROLES),
    "azp alone": (with_claims(aud=MISSING), ROLES),
    "azp, and aud of others": (with_claims(aud="account"), ROLES),
    "aud, and azp of another client": (with_claims(aud=CLIENT, azp="web-shop"), ROLES),
    "exp just inside the leeway": (with_claims(exp=NOW - 9), ROLES),
    "exp a float": (with_claims(exp=NOW + 0.5), ROLES),
    "exp far ahead": (with_claims(exp=10**400), ROLES),
    "nbf at the leeway": (with_claims(nbf=NOW + 10), ROLES),
    "nbf 0": (with_claims(nbf=0), ROLES),
    "nbf negative": (with_claims(nbf=-1), ROLES),
    "iat at the leeway": (with_claims(iat=NOW + 10), ROLES),
    "no iat": (with_claims(iat=MISSING), ROLES),
    "type in the header, RFC 9068": (raw_token(header(typ="at+jwt"), claims(typ=MISSING)), ROLES),
    "type in the header, as a media type": (raw_token(header(typ="application/AT+JWT"), claims(typ=MISSING)), ROLES),
    "type in both": (raw_token(header(typ="at+jwt"), claims()), ROLES),
    "no type in the header": (with_header(typ=MISSING), ROLES),
    "embedded key beside a good signature": (with_header(jwk=ATTACKER_JWK, jku="http://attacker.example/jwks"), ROLES),
    "no realm_access": (with_claims(realm_access=MISSING), set()),
    "realm_access null": (with_claims(realm_access=None), set()),
    "realm_access a list": (with_claims(realm_access=["admin"]), set()),
    "realm_access a string": (with_claims(realm_access="admin"), set()),
    "realm_access a number": (with_claims(realm_access=7), set()),
    "roles missing": (with_claims(realm_access={}), set()),
    "roles null": (with_claims(realm_access={"roles": None}), set()),
    "roles a string": (with_claims(realm_access={"roles": "admin"}), set()),
    "roles an object": (with_claims(realm_access={"roles": {"admin": True}}), set()),
    "roles of mixed types": (with_claims(realm_access={"roles": ["user", 7, None, ["admin"], {}]}), {"user"}),
    "roles in other case": (with_claims(realm_access={"roles": ["Admin", "ADMIN "]}), {"Admin", "ADMIN "}),
    "roles of a client do not count": (with_claims(realm_access=MISSING, resource_access={CLIENT: {"roles": ["admin"]}}), set()),
}
