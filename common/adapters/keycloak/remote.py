"""The realm's keys over HTTP: fetched seldom, kept while Keycloak is away."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from jose.backends.base import Key

from common.adapters.keycloak.keys import Keys, read_jwks
from common.errors import Unavailable
from common.loopback import DIRECT
from common.telemetry import JWKS_FETCHES, log
from common.tls import trusting

MAX_JWKS_BYTES = 262_144


class RemoteJwks:
    """The realm's keys, fetched over HTTP when first needed and kept.

    At most one fetch runs at a time, and none starts within `cooldown_seconds` of the last one's end, whatever tokens arrive and
    however that fetch ended. A token whose key is known never waits for a fetch. A fetch that fails leaves the keys as they were,
    however old. `clock` is monotonic, in seconds. `ca_file`: see common/tls.py.
    """

    def __init__(
        self,
        url: str,
        refresh_seconds: float,
        cooldown_seconds: float,
        timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        ca_file: Path | None = None,
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
        self._client = httpx.AsyncClient(
            timeout=timeout_seconds, headers={"Accept-Encoding": "identity"}, mounts=DIRECT, verify=trusting(ca_file)
        )

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
        # An AttributeError is anyio's, which asks a connection for its peer that was closed as soon as it was there.
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, AttributeError) as error:
            # A ValueError is read_jwks's or ours, in words; others may have none, and are known by their names.
            self._failure = f"{self._url}: {error if type(error) is ValueError else repr(error)}"
            JWKS_FETCHES.labels("failed").inc()
            log.warning("the realm's keys could not be fetched", reason=self._failure, have_keys=self._keys is not None)
        finally:
            self._next_fetch_at = self._clock() + self._cooldown_seconds
            self._fetching = None

    async def _download(self) -> bytes:
        body = bytearray()
        async with self._client.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                missing = response.status_code == httpx.codes.NOT_FOUND
                raise ValueError(f"{'the realm is not there: ' if missing else ''}HTTP {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_JWKS_BYTES:
                    raise ValueError(f"more than {MAX_JWKS_BYTES} bytes")
        return bytes(body)
