"""The rows in PostgreSQL (asyncpg) or SQLite (aiosqlite), through SQLModel: the same statements on both."""

from common.adapters.sql.store import SqlImageStore

__all__ = ["SqlImageStore"]
