"""What operators and the upkeep need: errors of attempts, attempts that count no more, whose turn it is, and the age of keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("forgiven", sa.Integer(), nullable=False, server_default=sa.text("0")))
        images.add_column(sa.Column("first_error", sa.Text()))
        images.add_column(sa.Column("first_error_at", sa.DateTime(timezone=True)))
        images.add_column(sa.Column("last_error", sa.Text()))
        images.add_column(sa.Column("last_error_at", sa.DateTime(timezone=True)))
    op.create_index("idempotency_keys_age", "idempotency_keys", ["created_at"])
    op.create_table(
        "turns",
        sa.Column("chore", sa.Text(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chore", name="turns_pkey"),
    )


def downgrade() -> None:
    op.drop_table("turns")
    op.drop_index("idempotency_keys_age", "idempotency_keys")
    with op.batch_alter_table("images") as images:
        for name in ("last_error_at", "last_error", "first_error_at", "first_error", "forgiven"):
            images.drop_column(name)
