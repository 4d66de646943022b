"""A process's connections to Redis, and the only place where what the SDK raises becomes our errors.

Each command is one round trip with a short time limit and is never tried twice. Those of the same turn of the event loop share one,
as a round trip is most of what a call costs a busy process. After a failure calls fail at once for a second, then one of
them tries, so that nobody is slowed down by a time-out each while Redis is away. What shares a link shares what one of its users
has found out.

A kept connection that died is replaced without a failure. Where another server answers then, one that was started again or a
replica, that counts as a failure all the same: what it knows may be what was true some time ago.
"""

import asyncio
import re
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.errors import Unavailable, WrongConfiguration
from common.tls import trusting

T = TypeVar("T")

CONNECTIONS = 32
PAUSE_SECONDS = 1.0
# Failures of the connection, as against an error that Redis answered with. OSError includes TimeoutError. uvloop has a RuntimeError
# for writing to a connection that was closed a moment ago, of which the SDK has not heard yet.
AWAY = (RedisConnectionError, RedisTimeoutError, OSError, RuntimeError)
# Every start of a server has another.
RUN_ID = re.compile(rb"^run_id:(\w+)", re.MULTILINE)


@contextmanager
def translated(service: str) -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, RuntimeError) as error:
        raise Unavailable(service, f"{type(error).__name__}: {str(error) or 'no answer in time'}") from error


@dataclass(frozen=True, slots=True)
class _Asked:
    command: tuple[Any, ...]
    options: dict[str, Any]
    answer: asyncio.Future[Any]


class _Pipelining(Redis):
    """Sends the commands of one turn of the event loop as one pipeline, with no transaction around them. One that fails is answered
    with its error alone; what ends the connection fails all of them."""

    def __init__(self, *, connection_pool: BlockingConnectionPool, timeout_seconds: float) -> None:
        super().__init__(connection_pool=connection_pool)
        self._timeout_seconds = timeout_seconds
        self._asked: list[_Asked] = []
        self._exchanges: set[asyncio.Task[None]] = set()

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        asked = _Asked(command, options, loop.create_future())
        if not self._asked:
            # Of no request, so that no request's id is in what it logs.
            loop.call_soon(self._send, context=Context())
        self._asked.append(asked)
        return await asked.answer

    async def give_up(self) -> None:
        """Ends what is still under way, of which nobody waits for an answer any more."""
        for exchange in self._exchanges:
            exchange.cancel()
        if self._exchanges:
            await asyncio.wait(self._exchanges)

    def _send(self) -> None:
        asked, self._asked = [one for one in self._asked if not one.answer.done()], []
        if not asked:
            return
        exchange = asyncio.create_task(self._exchange(asked))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)

    async def _exchange(self, asked: list[_Asked]) -> None:
        try:
            # The SDK's own limits are for each step: a free connection, connecting, writing, reading.
            async with asyncio.timeout(self._timeout_seconds), self.pipeline(transaction=False) as pipeline:
                for one in asked:
                    pipeline.execute_command(*one.command, **one.options)
                answers = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who asked are told
            answers = [error] * len(asked)
        except asyncio.CancelledError:
            answers = [RedisConnectionError("the connection was closed")] * len(asked)
        for one, answer in zip(asked, answers, strict=True):
            if one.answer.done():
                # Whoever asked has given up.
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)


class _TlsConnection(SSLConnection):
    """The SDK's own would read the system's CAs for each connection, and believe them beside those it is given."""

    def __init__(self, *, trust: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = trust


def _let_trust(pool: BlockingConnectionPool, url: str, ca_file: Path | None) -> None:
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return
    if not any(name.startswith("ssl_") for name in parse_qs(parts.query)):
        pool.connection_class = _TlsConnection
        pool.connection_kwargs["trust"] = trusting(ca_file)
    elif ca_file is not None:
        pool.connection_kwargs.setdefault("ssl_ca_certs", str(ca_file))


class RedisLink:
    """`service` names, in the errors, whose call it was."""

    def __init__(self, url: str, timeout_seconds: float, ca_file: Path | None = None) -> None:
        """Raises WrongConfiguration. Connects with the first call. `ca_file`: see common/tls.py."""
        self.timeout_seconds = timeout_seconds
        # Calls that were tried and failed, whatever became of them at the other end; and servers that took another's place.
        self.failures = 0
        self._run_id: bytes | None = None
        try:
            self._pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                # For a free connection. Shorter than the rest, so that who waits for one does not get it when it is too late.
                timeout=timeout_seconds / 2,
                socket_connect_timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                # With version 3 the SDK listens for maintenance notices, and no longer notices that a kept connection is dead.
                protocol=2,
                redis_connect_func=self._meet,
            )
        except ValueError:
            # Its text could hold the password.
            raise WrongConfiguration("REDIS_URL", "must be redis://[[USER]:PASSWORD@]HOST:PORT/DATABASE") from None
        self._speaks_tls = urlsplit(url).scheme == "rediss"
        _let_trust(self._pool, url, ca_file)
        self.client = _Pipelining(connection_pool=self._pool, timeout_seconds=timeout_seconds)
        # While Redis is away: the moment, on the loop's clock, from which a call may try again.
        self._try_again_at: float | None = None

    async def close(self) -> None:
        await self.client.give_up()
        with suppress(RedisError, OSError):
            await self.client.aclose(close_connection_pool=True)

    def own_connection(self) -> AbstractConnection:
        """One beside the pool, not connected yet, that whoever asks for it has to disconnect."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # the SDK's gap
        return connection

    async def _meet(self, connection: AbstractConnection) -> None:
        """Who is it, at the other end of a new connection? Where this account may not ask, it counts as another each time."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            found = RUN_ID.search(await connection.read_response())
        except ResponseError:
            found = None
        run_id = found[1] if found else secrets.token_bytes()
        if self._run_id not in (None, run_id):
            self.failures += 1
        self._run_id = run_id

    async def call(self, service: str, command: Callable[[], Awaitable[T]]) -> T:
        """Raises Unavailable."""
        if self._try_again_at is not None:
            now = asyncio.get_running_loop().time()
            if now < self._try_again_at:
                raise Unavailable(service, "Redis failed a moment ago")
            # This call tries; the others do not wait for what becomes of it.
            self._try_again_at = now + self.timeout_seconds + PAUSE_SECONDS
        return await self.attempt(service, command)

    async def attempt(self, service: str, command: Callable[[], Awaitable[T]]) -> T:
        """A call that tries even where others have just failed."""
        try:
            with translated(service):
                answer = await command()
        except Unavailable as error:
            self.failures += 1
            if self._run_id is None and self._speaks_tls and isinstance(error.__cause__, (TimeoutError, RedisTimeoutError)):
                # A server that does not speak it waits for the rest of what it takes for a command.
                error.reason = f"no answer in TLS in {self.timeout_seconds:g} s"
            if isinstance(error.__cause__, AWAY):
                self._try_again_at = asyncio.get_running_loop().time() + PAUSE_SECONDS
            raise
        self._try_again_at = None
        return answer
