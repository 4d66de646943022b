"""The database's revisions, run by common/adapters/sql/migrate.py. `alembic revision -m "…"` begins a new one."""
