"""What docs/security.md says in numbers and names is what the code has."""

from pathlib import Path

import pytest

from common.adapters.keycloak.keys import EC_ALGORITHMS, MAX_RSA_BITS, MIN_RSA_BITS, RSA_ALGORITHMS
from common.adapters.keycloak.remote import MAX_JWKS_BYTES
from common.adapters.keycloak.tokens import LEEWAY_SECONDS, MAX_KNOWN_TOKENS, MAX_TOKEN_CHARACTERS
from common.adapters.rabbitmq.topology import DEAD_TURN
from common.adapters.redis.accounts import KEYS
from common.adapters.redis.notifier import CHANNEL
from common.administration import Administration
from common.ports import LINK_SECONDS
from common.settings import Settings
from gateway.middleware import MAX_HEADER_BYTES, MAX_HEADERS
from gateway.multipart import FORM_ALLOWANCE_BYTES, MAX_TEXT_BYTES, PATIENCE_SECONDS
from gateway.protocol import HEAD_SECONDS
from gateway.waiting import LONGEST_WAIT_SECONDS
from tests.unit.test_access_matrix import OPEN

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "security.md").read_text().split())
DEFAULTS = Settings(_env_file=None)
SENTENCES = [
    f"at most {MAX_TOKEN_CHARACTERS} characters",
    "`alg` is " + ", ".join(RSA_ALGORITHMS) + f" or {' or '.join(EC_ALGORITHMS)}",
    f"RSA from {MIN_RSA_BITS} to {MAX_RSA_BITS} bits",
    f"all by {LEEWAY_SECONDS} seconds of leeway",
    f"of the last {MAX_KNOWN_TOKENS} of them that were used",
    f"every {DEFAULTS.jwks_refresh_seconds:g} seconds (`JWKS_REFRESH_SECONDS`)",
    f"at least {DEFAULTS.jwks_cooldown_seconds:g} seconds (`JWKS_COOLDOWN_SECONDS`)",
    f"over {MAX_JWKS_BYTES >> 10} KiB",
    f"{MAX_HEADERS} and {MAX_HEADER_BYTES >> 10} KiB in a request (`431`); the head has to arrive within {HEAD_SECONDS:g} seconds",
    f"{DEFAULTS.max_upload_bytes >> 20} MiB (`MAX_UPLOAD_BYTES`), {FORM_ALLOWANCE_BYTES >> 10} KiB of form around it, "
    f"{MAX_TEXT_BYTES >> 10} KiB a text field",
    f"{PATIENCE_SECONDS:g} seconds of silence or {DEFAULTS.upload_seconds:g} in all (`UPLOAD_SECONDS`)",
    f"{DEFAULTS.max_concurrent_uploads} a process of a gateway (`MAX_CONCURRENT_UPLOADS`)",
    f"{DEFAULTS.max_concurrent_waits} a process of a gateway (`MAX_CONCURRENT_WAITS`), {LONGEST_WAIT_SECONDS} seconds each",
    DEFAULTS.rate_limit.replace("/", " a ") + " (`RATE_LIMIT`)",
    f"{DEFAULTS.max_pixels // 10**6} megapixels (`MAX_PIXELS`), {DEFAULTS.max_frames} frames (`MAX_FRAMES`), "
    f"{DEFAULTS.max_total_pixels // 10**6} megapixels over all frames (`MAX_TOTAL_PIXELS`)",
    f"{DEFAULTS.render_seconds:g} seconds (`RENDER_SECONDS`), {DEFAULTS.render_memory_bytes >> 30} GiB of memory",
    f"works without a token for {LINK_SECONDS // 60} minutes",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_the_page_says_in_numbers(sentence: str) -> None:
    assert sentence in PAGE


@pytest.mark.parametrize("path", sorted(path for path in OPEN if not path.startswith(("/docs/", "/realms/"))))
def test_what_the_page_says_is_open(path: str) -> None:
    assert f"`{path}`" in PAGE


@pytest.mark.parametrize("name", [*map(str.upper, Administration.model_fields), *KEYS, CHANNEL, DEAD_TURN])
def test_what_the_page_says_of_accounts(name: str) -> None:
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("path", ["common/adapters/minio/policy.json", "rabbitmq/definitions.json"])
def test_files_that_the_page_names(path: str) -> None:
    assert f"`{path}`" in PAGE
    assert (Path(__file__).parents[2] / path).is_file()
