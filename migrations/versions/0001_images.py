"""The table of images."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("processing", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("outages", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("failure_code", sa.Text()),
        sa.Column("failure_detail", sa.Text()),
        sa.Column("result_key", sa.Text()),
        sa.Column("result_content_type", sa.Text()),
        sa.Column("result_size_bytes", sa.BigInteger()),
        sa.Column("result_sha256", sa.Text()),
        sa.Column("result_width", sa.Integer()),
        sa.Column("result_height", sa.Integer()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("dispatch_after", sa.DateTime(timezone=True)),
        sa.Column("last_due", sa.DateTime(timezone=True)),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="images_pkey"),
        sa.CheckConstraint("status IN ('uploaded', 'queued', 'processing', 'completed', 'failed')", name="images_status"),
        sa.CheckConstraint("priority IN ('high', 'normal', 'low')", name="images_priority"),
        sa.CheckConstraint("size_bytes > 0 AND width > 0 AND height > 0", name="images_size"),
        sa.CheckConstraint("attempts >= 0 AND outages >= 0 AND version >= 1", name="images_counts"),
        sa.CheckConstraint("(status = 'failed') = (failure_code IS NOT NULL)", name="images_failure"),
        sa.CheckConstraint("(status = 'completed') = (result_key IS NOT NULL)", name="images_result"),
        sa.CheckConstraint("dispatch_after IS NOT NULL OR status IN ('completed', 'failed')", name="images_unsettled_is_due"),
    )
    unsettled = sa.text("dispatch_after IS NOT NULL")
    op.create_index("images_due", "images", ["dispatch_after", "id"], postgresql_where=unsettled, sqlite_where=unsettled)
    op.create_index("images_owner", "images", ["owner", "id"])


def downgrade() -> None:
    op.drop_table("images")
