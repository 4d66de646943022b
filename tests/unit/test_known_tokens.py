"""A token that was found good is not judged in full again, and is refused all the same as soon as a new judgement would."""

import asyncio
import tracemalloc
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose.backends.base import Key

from common.adapters.keycloak import KeycloakTokenVerifier
from common.adapters.keycloak.keys import read_jwks
from common.errors import Unauthorized
from common.images import Principal
from tests.minting import CLIENT, ISSUER, NOW, OTHER_RSA_KEY, RSA_KEY, SUBJECT, ec_jwk, jwks, rsa_jwk, signed, with_claims

TOKEN = with_claims()


class CountedKey:
    """A key that counts the signatures it is asked about."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self.asked = 0

    def verify(self, message: bytes, signature: bytes) -> bool:
        self.asked += 1
        return self._key.verify(message, signature)


class Realm:
    """Key set and clock, which the test changes."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.counted: list[CountedKey] = []
        self.publish(rsa_jwk(RSA_KEY, "rsa"))

    def publish(self, *keys: Mapping[str, str]) -> None:
        """As a fetch would: all keys are new objects."""
        read = read_jwks(jwks(*keys))
        self._keys = {kid: {name: self._counted(key) for name, key in by_name.items()} for kid, by_name in read.items()}

    def _counted(self, key: Key) -> CountedKey:
        self.counted.append(CountedKey(key))
        return self.counted[-1]

    @property
    def signatures_checked(self) -> int:
        return sum(key.asked for key in self.counted)

    async def find(self, kid: str) -> Mapping[str, CountedKey] | None:
        return self._keys.get(kid)

    async def check(self) -> None: ...

    def verifier(self, known_tokens: int = 100) -> KeycloakTokenVerifier:
        return KeycloakTokenVerifier(ISSUER, CLIENT, self, lambda: self.now, known_tokens)  # type: ignore[arg-type]  # counts


@pytest.fixture
def realm() -> Realm:
    return Realm()


async def test_a_signature_is_checked_once(realm: Realm) -> None:
    verifier = realm.verifier()

    principals = [await verifier.verify(TOKEN) for _ in range(5)]

    assert principals == [Principal(subject=SUBJECT, roles=frozenset({"user", "admin"}))] * 5
    assert realm.signatures_checked == 1


async def test_it_expires_by_the_clock_with_the_same_leeway(realm: Realm) -> None:
    verifier = realm.verifier()
    token = with_claims(exp=NOW + 300)
    await verifier.verify(token)

    realm.now = NOW + 309.9
    await verifier.verify(token)
    assert realm.signatures_checked == 1

    realm.now = NOW + 310
    for _ in range(2):
        with pytest.raises(Unauthorized, match="has expired"):
            await verifier.verify(token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_clock_that_is_put_back_makes_it_too_early(realm: Realm, claim: str) -> None:
    verifier = realm.verifier()
    token = with_claims(**{"iat": NOW - 9999, claim: NOW})
    await verifier.verify(token)

    realm.now = NOW - 11
    with pytest.raises(Unauthorized, match="not valid yet"):
        await verifier.verify(token)


ROTATIONS = {
    "its key was withdrawn": (rsa_jwk(OTHER_RSA_KEY, "next"), "unknown key"),
    "another key has its id": (rsa_jwk(OTHER_RSA_KEY, "rsa"), "signature"),
    "its key is for another algorithm now": (rsa_jwk(RSA_KEY, "rsa", alg="PS256"), "does not match its key"),
    "its key is for encryption now": (rsa_jwk(RSA_KEY, "rsa", use="enc"), "unknown key"),
}


@pytest.mark.parametrize(("key", "reason"), ROTATIONS.values(), ids=ROTATIONS.keys())
async def test_it_is_refused_with_the_fetch_that_changes_its_key(realm: Realm, key: dict[str, str], reason: str) -> None:
    verifier = realm.verifier()
    await verifier.verify(TOKEN)

    realm.publish(key, ec_jwk("ec"))

    for _ in range(2):
        with pytest.raises(Unauthorized, match=reason):
            await verifier.verify(TOKEN)


async def test_a_fetch_that_brings_the_same_key_costs_one_check_of_the_signature(realm: Realm) -> None:
    verifier = realm.verifier()
    await verifier.verify(TOKEN)

    realm.publish(rsa_jwk(RSA_KEY, "rsa"), rsa_jwk(OTHER_RSA_KEY, "next"))
    for _ in range(3):
        await verifier.verify(TOKEN)

    assert realm.signatures_checked == 2


async def test_a_refused_token_is_judged_and_refused_each_time(realm: Realm) -> None:
    verifier = realm.verifier()
    forged = signed("RS256", "rsa", key=OTHER_RSA_KEY)

    for _ in range(3):
        with pytest.raises(Unauthorized, match="signature"):
            await verifier.verify(forged)

    assert realm.signatures_checked == 3


async def test_a_known_token_is_known_as_a_whole(realm: Realm) -> None:
    verifier = realm.verifier()
    await verifier.verify(TOKEN)
    head, payload, _ = TOKEN.split(".")
    other = with_claims(sub="somebody-else")

    with pytest.raises(Unauthorized, match="signature"):
        await verifier.verify(f"{head}.{payload}.{other.split('.')[2]}")
    assert (await verifier.verify(other)).subject == "somebody-else"


async def test_only_so_many_are_known_and_the_one_unused_for_longest_is_forgotten(realm: Realm) -> None:
    # given room for two, and a third token
    verifier = realm.verifier(known_tokens=2)
    first, second, third = (with_claims(sub=f"subject-{n}") for n in range(3))
    await verifier.verify(first)
    await verifier.verify(second)
    await verifier.verify(first)
    assert realm.signatures_checked == 2

    # when
    await verifier.verify(third)

    # then the second was forgotten, and the first was not
    await verifier.verify(first)
    assert realm.signatures_checked == 3
    await verifier.verify(second)
    assert realm.signatures_checked == 4


async def test_a_flood_of_good_tokens_takes_no_more_memory_than_the_bound(realm: Realm) -> None:
    verifier = realm.verifier(known_tokens=10)
    tokens = [with_claims(sub="s" * 250 + str(n)) for n in range(400)]
    for token in tokens[:20]:
        await verifier.verify(token)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for token in tokens[20:]:
            await verifier.verify(token)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # 380 more subjects and roles alone would be a multiple of this.
    assert after - before < 50_000


async def test_what_is_kept_of_a_token_is_no_token(realm: Realm) -> None:
    verifier = realm.verifier()
    await verifier.verify(TOKEN)

    kept = repr(vars(verifier))
    assert SUBJECT in kept
    assert not any(part in kept for part in TOKEN.split("."))


POOL = [
    TOKEN,
    with_claims(exp=NOW + 30),
    with_claims(nbf=NOW + 40),
    with_claims(iat=NOW + 60, exp=NOW + 70),
    signed("PS256", "rsa"),
    signed("RS256", "next", key=OTHER_RSA_KEY),
    signed("RS256", "rsa", key=OTHER_RSA_KEY),
    signed("ES256", "ec"),
]
KEY_SETS = [
    [rsa_jwk(RSA_KEY, "rsa")],
    [rsa_jwk(RSA_KEY, "rsa", alg="RS256"), ec_jwk("ec")],
    [rsa_jwk(OTHER_RSA_KEY, "rsa"), rsa_jwk(OTHER_RSA_KEY, "next")],
    [rsa_jwk(OTHER_RSA_KEY, "next"), ec_jwk("ec", alg="ES256")],
]
STEPS = st.lists(
    st.one_of(
        st.sampled_from(POOL),
        st.floats(-30, 120).map(lambda ahead: NOW + ahead),
        st.sampled_from(KEY_SETS),
    ),
    max_size=30,
)


@given(STEPS, st.integers(0, 4))
def test_whoever_knows_tokens_says_the_same_as_who_never_saw_one(
    steps: list[str | float | list[dict[str, str]]], known_tokens: int
) -> None:
    """Tokens that arrive, clocks that go and are put back, and keys that change, in any order."""
    realm = Realm()
    knowing, forgetful = realm.verifier(known_tokens), realm.verifier(0)

    async def said_by(verifier: KeycloakTokenVerifier, token: str) -> Principal | str:
        try:
            return await verifier.verify(token)
        except Unauthorized as refusal:
            return refusal.detail

    async def walk() -> None:
        for step in steps:
            match step:
                case str(token):
                    assert await said_by(knowing, token) == await said_by(forgetful, token)
                case float(moment):
                    realm.now = moment
                case keys:
                    realm.publish(*keys)

    asyncio.run(walk())
