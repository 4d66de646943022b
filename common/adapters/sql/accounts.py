"""PostgreSQL's two roles: the owner of the database, who migrates it, and the programs', who read and write rows and nothing else.

Safe to repeat, before the first migration and after any: what later ones make is the programs' to read and write by default. Takes
over what another role of the operator's has made, so that an installation whose programs owned everything can be changed over.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from common.adapters.sql.engine import trusted_url
from common.adapters.sql.rows import METADATA
from common.errors import Unavailable, WrongConfiguration

# Alembic's own, made here in its form: made later, it would be the programs' to write as well.
VERSION = "alembic_version"
VERSION_TABLE = (
    f"CREATE TABLE IF NOT EXISTS {VERSION} (version_num VARCHAR(32) NOT NULL CONSTRAINT alembic_version_pkc PRIMARY KEY)"
)
TABLES = tuple(METADATA.tables)
SAYS_WHO_GRANTED = 160_000


class PostgresAccounts:
    """An Accounts. `admin_url`: of any database there, by a role that may make roles and databases; the others: of ours."""

    def __init__(self, admin_url: str, owner_url: str, app_url: str, time_limit_seconds: float, ca_file: Path | None) -> None:
        """Raises WrongConfiguration."""
        self._admin_url, self._owner_url, self._app_url = admin_url, owner_url, app_url
        self._limit, self._ca_file = time_limit_seconds, ca_file
        names = {"POSTGRES_ADMIN_URL": admin_url, "POSTGRES_OWNER_URL": owner_url, "POSTGRES_URL": app_url}
        roles = {variable: unquote(urlsplit(url).username or "") for variable, url in names.items()}
        self._admin, self._owner, self._app = roles.values()
        self._database = unquote(urlsplit(app_url).path[1:])
        for variable in ("POSTGRES_OWNER_URL", "POSTGRES_URL"):
            if not roles[variable] or not urlsplit(names[variable]).password:
                raise WrongConfiguration(variable, "names no user and password to make")
        if self._app in (self._owner, self._admin):
            raise WrongConfiguration("POSTGRES_URL", "names the owner or the administrator; choose another role, which is made")
        if urlsplit(owner_url).path != urlsplit(app_url).path or not self._database:
            raise WrongConfiguration("POSTGRES_OWNER_URL", "must name the same database as POSTGRES_URL")

    async def make(self) -> str:
        async with self._session(self._admin_url) as admin:
            await self._make_roles(admin)
            if not await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", self._database):
                await _run(admin, "CREATE DATABASE %I OWNER %I", self._database, self._owner)
        async with self._in_database() as admin, admin.transaction():
            await self._take_over(admin)
        async with self._session(self._owner_url) as owner, owner.transaction():
            await self._grant(owner)
        return f"{self._app} reads and writes rows of {self._database}; {self._owner} owns and migrates it"

    def uses(self, name: str) -> bool:
        return name in (self._admin, self._owner, self._app)

    async def remove(self, name: str) -> bool:
        async with self._in_database() as admin:
            if not await _attributes(admin, name):
                return False
            async with admin.transaction():
                await _run(admin, "REASSIGN OWNED BY %I TO %I", name, self._owner)
                await _run(admin, "DROP OWNED BY %I", name)
                await _run(admin, "DROP ROLE %I", name)
        return True

    async def _make_roles(self, admin: Any) -> None:
        for variable, role, url in (
            ("POSTGRES_OWNER_URL", self._owner, self._owner_url),
            ("POSTGRES_URL", self._app, self._app_url),
        ):
            found = await _attributes(admin, role)
            if found and found["is_powerful"] and role != self._admin:
                raise WrongConfiguration(
                    variable, f"{role} may do more than it needs on this server; choose another role, which is made"
                )
            statement = "ALTER ROLE %I LOGIN PASSWORD %L" if found else "CREATE ROLE %I LOGIN PASSWORD %L"
            await _run(admin, statement, role, unquote(urlsplit(url).password or ""))
        if self._admin != self._owner and not await admin.fetchval("SELECT pg_has_role($1, 'USAGE')", self._owner):
            # Who is no superuser can give the owner what is to be its only as a member, which since PostgreSQL 16 the maker of a
            # role is in name alone.
            await _run(admin, "GRANT %I TO CURRENT_USER", self._owner)
        await self._leave_groups(admin)

    async def _leave_groups(self, admin: Any) -> None:
        """From PostgreSQL 16 on what somebody else has granted is only warned of where nobody says who."""
        says_who = await admin.fetchval("SELECT current_setting('server_version_num')::int") >= SAYS_WHO_GRANTED
        for group, grantor in await admin.fetch(
            "SELECT parent.rolname, grantor.rolname FROM pg_auth_members m JOIN pg_roles parent ON parent.oid = m.roleid "
            "JOIN pg_roles member ON member.oid = m.member LEFT JOIN pg_roles grantor ON grantor.oid = m.grantor "
            "WHERE member.rolname = $1",
            self._app,
        ):
            if says_who:
                await _run(admin, "REVOKE %I FROM %I GRANTED BY %I", group, self._app, grantor)
            else:
                await _run(admin, "REVOKE %I FROM %I", group, self._app)

    async def _take_over(self, admin: Any) -> None:
        await _run(admin, "ALTER DATABASE %I OWNER TO %I", self._database, self._owner)
        for table in await self._existing(admin):
            await _run(admin, "ALTER TABLE public.%I OWNER TO %I", table, self._owner)
        await _run(admin, "REVOKE ALL ON DATABASE %I FROM PUBLIC, %I", self._database, self._app)
        await _run(admin, "GRANT CONNECT ON DATABASE %I TO %I", self._database, self._app)
        # Before PostgreSQL 15 everybody could make tables there.
        await _run(admin, "REVOKE CREATE ON SCHEMA public FROM PUBLIC, %I", self._app)
        await _run(admin, "GRANT USAGE ON SCHEMA public TO %I", self._app)
        await _run(admin, "GRANT USAGE, CREATE ON SCHEMA public TO %I", self._owner)

    async def _grant(self, owner: Any) -> None:
        """As the owner, whose tables they are, and whose later ones the defaults are for."""
        await owner.execute(VERSION_TABLE)
        for table in await self._existing(owner):
            await _run(owner, "REVOKE ALL ON public.%I FROM %I", table, self._app)
            rights = "SELECT" if table == VERSION else "SELECT, INSERT, UPDATE, DELETE"
            await _run(owner, f"GRANT {rights} ON public.%I TO %I", table, self._app)
        rows = "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I"
        await _run(owner, f"ALTER DEFAULT PRIVILEGES IN SCHEMA public {rows}", self._app)
        await _run(owner, "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO %I", self._app)

    async def _existing(self, connection: Any) -> list[str]:
        wanted = [VERSION, *TABLES]
        found = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY($1)", wanted
        )
        return [row["tablename"] for row in found]

    def _in_database(self) -> Any:
        return self._session(urlsplit(self._admin_url)._replace(path=urlsplit(self._app_url).path).geturl())

    @asynccontextmanager
    async def _session(self, url: str) -> AsyncIterator[Any]:
        """The one place where what goes wrong becomes an error of ours."""
        variable = "POSTGRES_OWNER_URL" if url == self._owner_url else "POSTGRES_ADMIN_URL"
        address, trust = trusted_url(url, self._ca_file)
        try:
            async with asyncio.timeout(self._limit):
                connection = await asyncpg.connect(address, **trust)
                try:
                    yield connection
                finally:
                    await connection.close()
        except TimeoutError as error:
            raise Unavailable("database", f"no answer in {self._limit} s") from error
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ClientConfigurationError) as error:
            raise WrongConfiguration(variable, str(error.args[0])) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise Unavailable("database", f"{variable}: {type(error).__name__}: {error}") from error


async def _attributes(connection: Any, role: str) -> Any:
    """None where there is no such role."""
    query = (
        "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication AS is_powerful "
        "FROM pg_roles WHERE rolname = $1"
    )
    return await connection.fetchrow(query, role)


async def _run(connection: Any, statement: str, *names: str) -> None:
    """With names and passwords in it, which PostgreSQL itself quotes: such statements take no parameters."""
    places = ", ".join(f"${number}::text" for number in range(1, len(names) + 1))
    text = await connection.fetchval(f"SELECT format($format${statement}$format$, {places})", *names)
    await connection.execute(text)
