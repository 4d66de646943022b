"""The rows in PostgreSQL (asyncpg) or SQLite (aiosqlite), through SQLModel: the same statements on both."""

from common.adapters.sql.store import SqlImageStore
from common.adapters.sql.upkeep import SqlUpkeep

__all__ = ["SqlImageStore", "SqlUpkeep"]
