"""RabbitMQ's accounts, by its management API: the programs' own, with rights on their own names in their virtual host alone, and
one that only counts what is in its queues.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from common.adapters.rabbitmq.topology import DEAD_LETTERS, DEAD_QUEUE, DEAD_TURN, DEAD_WALK, JOBS, queue_name
from common.errors import Unavailable, WrongConfiguration
from common.images import Priority
from common.loopback import DIRECT
from common.ports import AccountKeys
from common.tls import trusting

EXCHANGES = (JOBS, DEAD_LETTERS)
QUEUES = (*map(queue_name, Priority), DEAD_QUEUE)
NOTHING = "^$"


def permissions(*, declares: bool) -> dict[str, str]:
    """https://www.rabbitmq.com/docs/access-control#authorisation: binding a queue writes it and reads the exchange, and one that
    names an exchange for dead letters writes that. Who may declare may delete as well."""
    if not declares:
        return {"configure": NOTHING, "write": _only(*EXCHANGES), "read": _only(*QUEUES, DEAD_TURN)}
    return {
        "configure": _only(*EXCHANGES, *QUEUES, DEAD_WALK),
        "write": _only(*EXCHANGES, *QUEUES),
        "read": _only(*EXCHANGES, *QUEUES),
    }


# Sees the numbers of the queues in its virtual host, and no message.
MONITORING = {"configure": NOTHING, "write": NOTHING, "read": NOTHING}


class RabbitMqAccounts:
    """An Accounts. `api_url`: http[s]://USER:PASSWORD@HOST:PORT of the management API, by an administrator; `url`: for AMQP."""

    def __init__(
        self,
        api_url: str,
        url: str,
        monitoring_url: str | None,
        timeout_seconds: float,
        ca_file: Path | None,
        *,
        declares: bool,
    ) -> None:
        """Raises WrongConfiguration."""
        admin, app = urlsplit(api_url), urlsplit(url)
        if admin.scheme not in ("http", "https"):
            raise WrongConfiguration("RABBITMQ_ADMIN_URL", "must be that of the management API: http[s]://USER:PASSWORD@HOST:PORT")
        self._api_url = admin._replace(netloc=admin.netloc.rpartition("@")[2], path="", query="").geturl()
        self._auth = (unquote(admin.username or ""), unquote(admin.password or ""))
        self._app = _keys("RABBITMQ_URL", url)
        if self._app.name == self._auth[0]:
            raise WrongConfiguration("RABBITMQ_URL", "names the administrator; choose another user, who is made")
        self._vhost = unquote(app.path[1:]) or "/"
        self._monitoring = self._who_counts(monitoring_url) if monitoring_url else None
        self._permissions = permissions(declares=declares)
        self._timeout_seconds = timeout_seconds
        self._trust = trusting(ca_file)

    def _who_counts(self, url: str) -> AccountKeys:
        """The URL is KEDA's, too, which takes the last part of the path for the virtual host, and none for the one named `/`."""
        variable, parts = "RABBITMQ_MONITORING_URL", urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise WrongConfiguration(variable, "must be that of the management API: http[s]://USER:PASSWORD@HOST:PORT/VHOST")
        keys = _keys(variable, url)
        # What it is given, it has alone: an administrator would be none any more, and the programs would be without their queues.
        if keys.name == self._auth[0]:
            raise WrongConfiguration(variable, "names the administrator; choose another user, who is made")
        if keys.name == self._app.name:
            raise WrongConfiguration(variable, "names the user of RABBITMQ_URL; choose another, who is made")
        vhost = unquote(parts.path.rpartition("/")[2]) or "/"
        if vhost != self._vhost:
            raise WrongConfiguration(
                variable, f"names the virtual host {vhost}, and RABBITMQ_URL {self._vhost}; it must be the same"
            )
        return keys

    async def make(self) -> str:
        async with self._api() as api:
            if (await _ask(api, "GET", f"vhosts/{_part(self._vhost)}", missing=True)).status_code == httpx.codes.NOT_FOUND:
                await _ask(api, "PUT", f"vhosts/{_part(self._vhost)}")
            await self._account(api, self._app, "", self._permissions)
            if self._monitoring is not None:
                # The tag lets it use the API, which shows it nothing of other virtual hosts.
                await self._account(api, self._monitoring, "management", MONITORING)
        made = f"{self._app.name} uses the queues of the virtual host {self._vhost}"
        return made + (f"; {self._monitoring.name} counts what is in them" if self._monitoring else "")

    def uses(self, name: str) -> bool:
        return name in (self._app.name, self._auth[0], self._monitoring.name if self._monitoring else None)

    async def remove(self, name: str) -> bool:
        async with self._api() as api:
            answer = await _ask(api, "DELETE", f"users/{_part(name)}", missing=True)
        return answer.status_code != httpx.codes.NOT_FOUND

    async def _account(self, api: httpx.AsyncClient, keys: AccountKeys, tags: str, allowed: dict[str, str]) -> None:
        await _ask(api, "PUT", f"users/{_part(keys.name)}", json={"password": keys.secret, "tags": tags})
        held = (await _ask(api, "GET", f"users/{_part(keys.name)}/permissions")).json()
        for elsewhere in {entry["vhost"] for entry in held} - {self._vhost}:
            await _ask(api, "DELETE", f"permissions/{_part(elsewhere)}/{_part(keys.name)}")
        await _ask(api, "PUT", f"permissions/{_part(self._vhost)}/{_part(keys.name)}", json=allowed)

    def _api(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"{self._api_url}/api/", auth=self._auth, timeout=self._timeout_seconds, mounts=DIRECT, verify=self._trust
        )


async def _ask(api: httpx.AsyncClient, method: str, path: str, *, missing: bool = False, json: Any = None) -> httpx.Response:
    """`missing`: that it is not there is an answer."""
    try:
        answer = await api.request(method, path, json=json)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable("queue", f"{api.base_url}: {error!r}") from error
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise WrongConfiguration("RABBITMQ_ADMIN_URL", f"is not an administrator's: {answer.text[:200]}")
    if not (answer.is_success or (missing and answer.status_code == httpx.codes.NOT_FOUND)):
        raise Unavailable("queue", f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    return answer


def _keys(variable: str, url: str) -> AccountKeys:
    parts = urlsplit(url)
    if not parts.username or not parts.password:
        raise WrongConfiguration(variable, "names no user and password to make")
    return AccountKeys(unquote(parts.username), unquote(parts.password))


def _only(*names: str) -> str:
    return f"^({'|'.join(map(re.escape, names))})$"


def _part(name: str) -> str:
    return quote(name, safe="")
