"""Which tokens the verifier takes: a table of attacks, each refused for its own reason, next to the tokens that must pass."""

import pytest

from common.adapters.keycloak import KeycloakTokenVerifier
from common.errors import Unauthorized
from common.images import Principal
from tests.minting import SUBJECT, with_claims
from tests.token_table import GOOD, NOT_A_JWT, REFUSED, TOO_LARGE, verifier_of_the_table

# What HTTP does not bring as far as the verifier.
UNSENDABLE = {
    "empty": ("", NOT_A_JWT),
    "100 kB": ("a" * 100_000, TOO_LARGE),
    "100 kB and well signed": (with_claims(filler="a" * 100_000), TOO_LARGE),
}
ALL_REFUSED = REFUSED | UNSENDABLE


@pytest.fixture(params=["that knows no token yet", "that knows every good one"])
async def verifier(request: pytest.FixtureRequest) -> KeycloakTokenVerifier:
    verifier = verifier_of_the_table()
    if "every" in request.param:
        for token, _ in GOOD.values():
            await verifier.verify(token)
    return verifier


@pytest.mark.parametrize(("token", "detail"), ALL_REFUSED.values(), ids=ALL_REFUSED.keys())
async def test_a_wrong_token_is_refused_for_the_right_reason(verifier: KeycloakTokenVerifier, token: str, detail: str) -> None:
    with pytest.raises(Unauthorized) as refusal:
        await verifier.verify(token)

    assert refusal.value.detail == detail
    assert refusal.value.token_given
    # It goes into a quoted string of a header.
    assert detail.isascii()
    assert detail.isprintable()
    assert not set(detail) & set('"\\')


@pytest.mark.parametrize(("token", "roles"), GOOD.values(), ids=GOOD.keys())
async def test_a_good_token_gives_its_subject_and_realm_roles(verifier: KeycloakTokenVerifier, token: str, roles: set[str]) -> None:
    assert await verifier.verify(token) == Principal(subject=SUBJECT, roles=frozenset(roles))
