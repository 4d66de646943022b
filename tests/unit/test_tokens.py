"""Which tokens are judged good: a table of attacks, each refused for its own reason, next to the tokens that must pass."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from jose.backends.base import Key

from common.adapters.keycloak import KeycloakTokenVerifier, Keys, read_jwks
from common.errors import Unauthorized
from common.images import Principal
from tests.minting import (
    CLIENT,
    DER,
    ISSUER,
    MISSING,
    NOW,
    OTHER_RSA_KEY,
    PEM,
    RSA_KEY,
    SUBJECT,
    b64,
    claims,
    ec_jwk,
    header,
    hmac_signed,
    jwks,
    raw_token,
    rsa_jwk,
    signature,
    signed,
    with_claims,
    with_header,
)


def tampered_payload() -> str:
    head, _, signed_part = with_claims().split(".")
    return f"{head}.{b64(claims(realm_access={'roles': ['admin']}))}.{signed_part}"


def tampered_signature() -> str:
    head, payload, signed_part = with_claims().split(".")
    return f"{head}.{payload}.{'A' if signed_part[0] != 'A' else 'B'}{signed_part[1:]}"


class FixedKeys:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def find(self, kid: str) -> Mapping[str, Key] | None:
        return self._keys.get(kid)

    async def check(self) -> None: ...


KEYS = read_jwks(
    jwks(
        rsa_jwk(RSA_KEY, "rsa"),
        rsa_jwk(RSA_KEY, "rsa-256-only", alg="RS256"),
        rsa_jwk(RSA_KEY, "pss", alg="PS256"),
        ec_jwk("ec"),
        ec_jwk("ec-256", alg="ES256"),
    )
)


@pytest.fixture
def verifier() -> KeycloakTokenVerifier:
    return KeycloakTokenVerifier(ISSUER, CLIENT, FixedKeys(KEYS), clock=lambda: NOW)


NOT_A_JWT = "The token is not a signed JWT."
BAD_ALGORITHM = "The signing algorithm of the token is not accepted."
OTHER_ALGORITHM = "The signing algorithm of the token does not match its key."
NO_KEY = "The token does not name its key."
UNKNOWN_KEY = "The token is signed by an unknown key."
BAD_SIGNATURE = "The signature of the token is wrong."
OTHER_ISSUER = "The token is from another issuer."
OTHER_CLIENT = "The token is for another client."
NOT_ACCESS = "The token is not an access token."
EXPIRED = "The token has expired."
NOT_YET = "The token is not valid yet."
NO_SUBJECT = "The token does not say whom it is for."
NO_EXPIRY = "The token has no expiry time."
TOO_LARGE = "The token is too large."
ATTACKER_JWK = rsa_jwk(OTHER_RSA_KEY, "rsa")


def by_attacker(**changes: Any) -> str:
    return raw_token(header(**changes), claims(), lambda m: signature("RS256", m, OTHER_RSA_KEY))


REFUSED: dict[str, tuple[str, str]] = {
    "alg none, unsigned": (f"{b64(header(alg='none'))}.{b64(claims())}.", NOT_A_JWT),
    "alg none, some signature": (with_header(alg="none"), BAD_ALGORITHM),
    "alg None": (with_header(alg="None"), BAD_ALGORITHM),
    "alg NONE": (with_header(alg="NONE"), BAD_ALGORITHM),
    "alg null": (with_header(alg=None), BAD_ALGORITHM),
    "alg missing": (with_header(alg=MISSING), BAD_ALGORITHM),
    "alg in lower case": (with_header(alg="rs256"), BAD_ALGORITHM),
    "alg a list": (with_header(alg=["RS256"]), BAD_ALGORITHM),
    "alg outside the list": (signed("PS384", "rsa"), BAD_ALGORITHM),
    "HS256 keyed with the PEM": (hmac_signed(PEM), BAD_ALGORITHM),
    "HS256 keyed with the PEM, stripped": (hmac_signed(PEM.strip()), BAD_ALGORITHM),
    "HS256 keyed with the DER": (hmac_signed(DER), BAD_ALGORITHM),
    "HS256 keyed with the modulus": (hmac_signed(rsa_jwk(RSA_KEY, "rsa")["n"].encode()), BAD_ALGORITHM),
    "HMAC with the PEM that calls itself RS256": (hmac_signed(PEM, "RS256"), BAD_SIGNATURE),
    "RS key with ES alg": (with_header(alg="ES256"), OTHER_ALGORITHM),
    "EC key with RS alg": (with_header(kid="ec"), OTHER_ALGORITHM),
    "key for RS256 alone with RS512": (signed("RS512", "rsa-256-only"), OTHER_ALGORITHM),
    "key for RS256 alone with PS256": (signed("PS256", "rsa-256-only"), OTHER_ALGORITHM),
    "PKCS1 signature called PSS": (with_header(alg="PS256"), BAD_SIGNATURE),
    "RS256 signature called RS512": (with_header(alg="RS512"), BAD_SIGNATURE),
    "ES256 signature of zeros": (raw_token(header(alg="ES256", kid="ec"), claims(), lambda m: bytes(64)), BAD_SIGNATURE),
    "ES256 signature too short": (raw_token(header(alg="ES256", kid="ec"), claims(), lambda m: b"short"), BAD_SIGNATURE),
    "kid unknown": (with_header(kid="unknown"), UNKNOWN_KEY),
    "kid missing": (with_header(kid=MISSING), NO_KEY),
    "kid null": (with_header(kid=None), NO_KEY),
    "kid a number": (with_header(kid=1), NO_KEY),
    "kid a list": (with_header(kid=["rsa"]), NO_KEY),
    "kid like a path": (with_header(kid="../../../../dev/null"), UNKNOWN_KEY),
    "kid in other case": (with_header(kid="RSA"), UNKNOWN_KEY),
    "kid empty": (with_header(kid=""), UNKNOWN_KEY),
    "kid with a lone surrogate": (with_header(kid="\ud800"), UNKNOWN_KEY),
    "key of another realm": (by_attacker(kid="their-key"), UNKNOWN_KEY),
    "key of another realm under our kid": (by_attacker(), BAD_SIGNATURE),
    "embedded jwk": (by_attacker(jwk=ATTACKER_JWK), BAD_SIGNATURE),
    "embedded jwk, no kid": (by_attacker(jwk=ATTACKER_JWK, kid=MISSING), NO_KEY),
    "embedded jku": (by_attacker(jku="http://attacker.example/jwks"), BAD_SIGNATURE),
    "embedded x5u": (by_attacker(x5u="http://attacker.example/cert"), BAD_SIGNATURE),
    "embedded x5c": (by_attacker(x5c=[base64.b64encode(DER).decode()]), BAD_SIGNATURE),
    "crit": (with_header(crit=["exp"]), "The token asks for extensions that are not supported."),
    "wrong issuer": (with_claims(iss="http://localhost:8080/realms/master"), OTHER_ISSUER),
    "issuer with a trailing slash": (with_claims(iss=f"{ISSUER}/"), OTHER_ISSUER),
    "issuer in other case": (with_claims(iss=ISSUER.upper()), OTHER_ISSUER),
    "issuer in a list": (with_claims(iss=[ISSUER]), OTHER_ISSUER),
    "no issuer": (with_claims(iss=MISSING), OTHER_ISSUER),
    "no aud, no azp": (with_claims(aud=MISSING, azp=MISSING), OTHER_CLIENT),
    "other aud, no azp": (with_claims(aud="account", azp=MISSING), OTHER_CLIENT),
    "other auds in a list": (with_claims(aud=["account", "broker"], azp=MISSING), OTHER_CLIENT),
    "another client's token": (with_claims(aud="account", azp="other-client"), OTHER_CLIENT),
    "aud contains ours as a part": (with_claims(aud=f"{CLIENT}-2", azp=MISSING), OTHER_CLIENT),
    "aud an object": (with_claims(aud={CLIENT: 1}, azp=MISSING), OTHER_CLIENT),
    "aud a list in a list": (with_claims(aud=[[CLIENT]], azp=[CLIENT]), OTHER_CLIENT),
    "no exp": (with_claims(exp=MISSING), NO_EXPIRY),
    "exp past": (with_claims(exp=NOW - 3600), EXPIRED),
    "exp past the leeway": (with_claims(exp=NOW - 10), EXPIRED),
    "exp far below zero": (with_claims(exp=-(10**300)), EXPIRED),
    "exp a string": (with_claims(exp=str(NOW + 300)), "The claim exp of the token is not a time."),
    "exp a bool": (with_claims(exp=True), "The claim exp of the token is not a time."),
    "exp null": (with_claims(exp=None), "The claim exp of the token is not a time."),
    "exp a list": (with_claims(exp=[NOW + 300]), "The claim exp of the token is not a time."),
    "exp NaN": (with_claims(exp=float("nan")), NOT_A_JWT),
    "exp Infinity": (with_claims(exp=float("inf")), NOT_A_JWT),
    "exp 1e999": (
        raw_token(header(), claims(exp=1).replace(b'"exp": 1', b'"exp": 1e999')),
        "The claim exp of the token is not a time.",
    ),
    "exp of 5000 digits": (raw_token(header(), claims(exp=1).replace(b'"exp": 1', b'"exp": ' + b"9" * 5000)), NOT_A_JWT),
    "nbf ahead": (with_claims(nbf=NOW + 3600), NOT_YET),
    "nbf just ahead of the leeway": (with_claims(nbf=NOW + 11), NOT_YET),
    "nbf a string": (with_claims(nbf="0"), "The claim nbf of the token is not a time."),
    "iat far ahead": (with_claims(iat=NOW + 3600), NOT_YET),
    "iat just ahead of the leeway": (with_claims(iat=NOW + 11), NOT_YET),
    "iat a bool": (with_claims(iat=False), "The claim iat of the token is not a time."),
    "ID token": (with_claims(typ="ID"), NOT_ACCESS),
    "ID token with an access token's header": (raw_token(header(typ="at+jwt"), claims(typ="ID")), NOT_ACCESS),
    "null type with an access token's header": (raw_token(header(typ="at+jwt"), claims(typ=None)), NOT_ACCESS),
    "refresh token": (with_claims(typ="Refresh"), NOT_ACCESS),
    "offline token": (with_claims(typ="Offline"), NOT_ACCESS),
    "logout token": (with_claims(typ="Logout"), NOT_ACCESS),
    "token without a type": (with_claims(typ=MISSING), NOT_ACCESS),
    "token with a null type": (with_claims(typ=None), NOT_ACCESS),
    "no sub": (with_claims(sub=MISSING), NO_SUBJECT),
    "sub empty": (with_claims(sub=""), NO_SUBJECT),
    "sub a number": (with_claims(sub=7), NO_SUBJECT),
    "sub with NUL": (with_claims(sub="a\0b"), NO_SUBJECT),
    "sub with a lone surrogate": (with_claims(sub="\ud800"), NO_SUBJECT),
    "sub with a line feed": (with_claims(sub="a\nb"), NO_SUBJECT),
    "sub not ASCII": (with_claims(sub="ren\u00e9"), NO_SUBJECT),
    "sub too long": (with_claims(sub="a" * 256), NO_SUBJECT),
    "tampered payload": (tampered_payload(), BAD_SIGNATURE),
    "tampered signature": (tampered_signature(), BAD_SIGNATURE),
    "signature of another length": (with_claims()[:-8], BAD_SIGNATURE),
    "signature of an impossible length": (with_claims().rsplit(".", 1)[0] + ".A", NOT_A_JWT),
    "truncated in the payload": (with_claims().rsplit(".", 1)[0][:-5], NOT_A_JWT),
    "empty": ("", NOT_A_JWT),
    "opaque": ("0f3c9a7e", NOT_A_JWT),
    "dots alone": ("..", NOT_A_JWT),
    "two dots more": (f"{with_claims()}.a.b", NOT_A_JWT),
    "padded": (f"{with_claims()}==", NOT_A_JWT),
    "line feed at its end": (f"{with_claims()}\n", NOT_A_JWT),
    "characters that base64 decoders skip": (with_claims().replace(".", ".!"), NOT_A_JWT),
    "not ASCII": (f"{with_claims()}\u00e9", NOT_A_JWT),
    "100 kB": ("a" * 100_000, TOO_LARGE),
    "100 kB and well signed": (with_claims(filler="a" * 100_000), TOO_LARGE),
    "header no JSON": (raw_token(b"{alg:RS256}", claims()), NOT_A_JWT),
    "header a list": (raw_token(b'["RS256"]', claims()), NOT_A_JWT),
    "header a string": (raw_token(b'"RS256"', claims()), NOT_A_JWT),
    "header not UTF-8": (raw_token(b'{"alg":"\xff"}', claims()), NOT_A_JWT),
    "header nested too deep": (raw_token(b"[" * 8000, b"{}"), NOT_A_JWT),
    "payload no JSON": (raw_token(header(), b"hello"), NOT_A_JWT),
    "payload a list": (raw_token(header(), b"[]"), NOT_A_JWT),
    "payload null": (raw_token(header(), b"null"), NOT_A_JWT),
    "payload not UTF-8": (raw_token(header(), b"\xff\xfe"), NOT_A_JWT),
    "payload nested too deep": (raw_token(header(), b"[" * 8000), NOT_A_JWT),
}


@pytest.mark.parametrize(("token", "detail"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_wrong_token_is_refused_for_the_right_reason(verifier: KeycloakTokenVerifier, token: str, detail: str) -> None:
    with pytest.raises(Unauthorized) as refusal:
        await verifier.verify(token)

    assert refusal.value.detail == detail
    assert refusal.value.token_given
    # It goes into a quoted string of a header.
    assert detail.isascii()
    assert detail.isprintable()
    assert not set(detail) & set('"\\')


GOOD: dict[str, tuple[str, set[str]]] = {
    "as Keycloak makes them": (with_claims(), {"user", "admin"}),
    **{f"signed with {alg}": (signed(alg, "rsa"), {"user", "admin"}) for alg in ("RS256", "RS384", "RS512", "PS256")},
    "signed with ES256": (signed("ES256", "ec"), {"user", "admin"}),
    "key for PS256 alone": (signed("PS256", "pss"), {"user", "admin"}),
    "key for ES256 alone": (signed("ES256", "ec-256"), {"user", "admin"}),
    "aud a string": (with_claims(aud=CLIENT, azp=MISSING), {"user", "admin"}),
    "aud a list": (with_claims(aud=["account", CLIENT], azp=MISSING), {"user", "admin"}),
    "azp alone": (with_claims(aud=MISSING), {"user", "admin"}),
    "azp, and aud of others": (with_claims(aud="account"), {"user", "admin"}),
    "aud, and azp of another client": (with_claims(aud=CLIENT, azp="web-shop"), {"user", "admin"}),
    "exp just inside the leeway": (with_claims(exp=NOW - 9), {"user", "admin"}),
    "exp a float": (with_claims(exp=NOW + 0.5), {"user", "admin"}),
    "exp far ahead": (with_claims(exp=10**400), {"user", "admin"}),
    "nbf at the leeway": (with_claims(nbf=NOW + 10), {"user", "admin"}),
    "nbf 0": (with_claims(nbf=0), {"user", "admin"}),
    "iat at the leeway": (with_claims(iat=NOW + 10), {"user", "admin"}),
    "no iat": (with_claims(iat=MISSING), {"user", "admin"}),
    "type in the header, RFC 9068": (raw_token(header(typ="at+jwt"), claims(typ=MISSING)), {"user", "admin"}),
    "no type in the header": (with_header(typ=MISSING), {"user", "admin"}),
    "no realm_access": (with_claims(realm_access=MISSING), set()),
    "realm_access null": (with_claims(realm_access=None), set()),
    "realm_access a list": (with_claims(realm_access=["admin"]), set()),
    "roles missing": (with_claims(realm_access={}), set()),
    "roles a string": (with_claims(realm_access={"roles": "admin"}), set()),
    "roles of mixed types": (with_claims(realm_access={"roles": ["user", 7, None, ["admin"], {}]}), {"user"}),
    "roles of a client do not count": (with_claims(realm_access=MISSING, resource_access={CLIENT: {"roles": ["admin"]}}), set()),
}


@pytest.mark.parametrize(("token", "roles"), GOOD.values(), ids=GOOD.keys())
async def test_a_good_token_gives_its_subject_and_realm_roles(verifier: KeycloakTokenVerifier, token: str, roles: set[str]) -> None:
    assert await verifier.verify(token) == Principal(subject=SUBJECT, roles=frozenset(roles))
