"""Redis's account for the programs: the commands that they use, on their own keys and channel alone."""

import hashlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from redis.exceptions import NoPermissionError, ResponseError

from common.adapters.redis.link import RedisLink
from common.adapters.redis.notifier import CHANNEL
from common.errors import Unavailable, WrongConfiguration

SERVICE = "cache"
# Of rows, of callers' rates (the library's own), and of the check.
KEYS = ("image:*", "LIMITS:*", "image-processor:check")
# Those that scripts run are asked for one by one as well.
COMMANDS = (
    *("get", "set", "pttl", "time", "exists", "incrby", "rename"),
    *("eval", "evalsha", "script|load", "script|exists"),
    *("publish", "subscribe", "unsubscribe"),
    *("ping", "info", "select"),
)
# The SDK tells its name with it; Redis knows it from 7.2 on.
LATER = "+client|setinfo"
RULES = (*(f"~{key}" for key in KEYS), f"&{CHANNEL}", *(f"+{command}" for command in COMMANDS))


class RedisAccounts:
    """An Accounts. `admin_url`: by a user who may use ACL; `url`: the programs'."""

    def __init__(self, admin_url: str, url: str, timeout_seconds: float, ca_file: Path | None) -> None:
        """Raises WrongConfiguration."""
        parts = urlsplit(url)
        self._name, password = unquote(parts.username or ""), unquote(parts.password or "")
        if not self._name or self._name == "default" or not password:
            raise WrongConfiguration("REDIS_URL", "names no user and password to make, as in redis://USER:PASSWORD@HOST:PORT/0")
        if not all(character.isprintable() and not character.isspace() for character in self._name):
            raise WrongConfiguration("REDIS_URL", "names a user with spaces or control characters, which Redis does not take")
        self._admin_name = unquote(urlsplit(admin_url).username or "default")
        if self._name == self._admin_name:
            raise WrongConfiguration("REDIS_URL", "names the administrator; choose another user, who is made")
        # Only the digest goes there, and into the file that Redis keeps.
        self._rules = ("on", f"#{hashlib.sha256(password.encode()).hexdigest()}", *RULES)
        self._admin_url, self._timeout_seconds, self._ca_file = admin_url, timeout_seconds, ca_file

    async def make(self) -> str:
        link = RedisLink(self._admin_url, self._timeout_seconds, self._ca_file)
        try:
            await self._set_user(link)
            with suppress(Unavailable):
                await link.attempt(SERVICE, lambda: link.client.execute_command("ACL", "SETUSER", self._name, LATER))
            kept = await self._save(link)
        finally:
            await link.close()
        made = f"{self._name} uses its own keys and channel"
        return (
            made if kept else f"{made} until Redis restarts, which has no file for users: user {self._name} {' '.join(self._rules)}"
        )

    async def _set_user(self, link: RedisLink) -> None:
        try:
            await link.call(SERVICE, lambda: link.client.execute_command("ACL", "SETUSER", self._name, "reset", *self._rules))
        except Unavailable as error:
            if isinstance(error.__cause__, NoPermissionError):
                raise WrongConfiguration("REDIS_ADMIN_URL", f"is not an administrator's: {error.__cause__}") from error
            # Its subclasses are states of the server, which pass.
            if type(error.__cause__) is ResponseError:
                raise WrongConfiguration("REDIS_URL", f"Redis refuses this user: {error.__cause__}") from error
            raise

    def uses(self, name: str) -> bool:
        return name in (self._name, self._admin_name, "default")

    async def remove(self, name: str) -> bool:
        link = RedisLink(self._admin_url, self._timeout_seconds, self._ca_file)
        try:
            removed: int = await link.call(SERVICE, lambda: link.client.execute_command("ACL", "DELUSER", name))
            await self._save(link)
        finally:
            await link.close()
        return bool(removed)

    async def _save(self, link: RedisLink) -> bool:
        """Where the server has an ACL file. Else users are lines of its configuration, which is the operator's."""

        async def save() -> bool:
            try:
                await link.client.execute_command("ACL", "SAVE")
            except ResponseError:
                return False
            return True

        return await link.call(SERVICE, save)
