"""Which keys of a key set are used, and for what."""

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.adapters.keycloak.keys import read_jwks
from tests.minting import RSA_KEY, b64, ec_jwk, jwks, number, rsa_jwk


def test_only_usable_signing_keys_are_kept() -> None:
    p384 = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to see it refused

    keys = read_jwks(
        jwks(
            rsa_jwk(RSA_KEY, "good"),
            {name: value for name, value in rsa_jwk(RSA_KEY, "no-use").items() if name != "use"},
            rsa_jwk(RSA_KEY, "encryption", use="enc", alg="RSA-OAEP"),
            rsa_jwk(RSA_KEY, "encryption-algorithm", alg="RSA-OAEP"),
            rsa_jwk(RSA_KEY, "hmac-algorithm", alg="HS256"),
            rsa_jwk(RSA_KEY, "ec-algorithm", alg="ES256"),
            rsa_jwk(small, "too-small"),
            rsa_jwk(RSA_KEY, "bad-modulus", n="****"),
            rsa_jwk(RSA_KEY, "empty-modulus", n=""),
            rsa_jwk(RSA_KEY, "no-number", n=7),
            rsa_jwk(RSA_KEY, "exponent-of-one", e=number(1)),
            rsa_jwk(RSA_KEY, "even-exponent", e=number(65536)),
            rsa_jwk(RSA_KEY, "huge-exponent", e=number(1 << 3000)),
            rsa_jwk(RSA_KEY, "huge-modulus", n=number((1 << 20_000) + 1)),
            rsa_jwk(RSA_KEY, "other-type", kty="EC"),
            {name: value for name, value in rsa_jwk(RSA_KEY, "no-type").items() if name != "kty"},
            rsa_jwk(RSA_KEY, "null-type", kty=None),
            rsa_jwk(RSA_KEY, "list-of-algorithms", alg=["RS256"]),
            {"kty": "EC", "crv": "P-384", "kid": "other-curve", "use": "sig", "x": number(p384.x), "y": number(p384.y)},
            ec_jwk("off-the-curve", x=b64(bytes(32))),
            {"kty": "oct", "kid": "secret", "k": b64(b"secret")},
            {name: value for name, value in rsa_jwk(RSA_KEY, "").items() if name != "kid"},
            {"kid": ["list"]},
            "no object",
            None,
        )
    )

    assert sorted(keys) == ["good", "no-use"]
    assert sorted(keys["good"]) == ["PS256", "RS256", "RS384", "RS512"]


def test_a_private_key_in_the_set_is_taken_as_its_public_half() -> None:
    private = RSA_KEY.private_numbers()

    keys = read_jwks(jwks(rsa_jwk(RSA_KEY, "rsa", d=number(private.d), p=number(private.p))))

    assert "d" not in keys["rsa"]["RS256"].to_dict()
