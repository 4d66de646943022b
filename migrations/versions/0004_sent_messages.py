"""Where an image's message was put, when and for which attempt: so that one that only waits is told from one that is lost."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("sent_attempts", sa.Integer()))
        images.add_column(sa.Column("sent_to", sa.Text()))
        images.add_column(sa.Column("sent_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    with op.batch_alter_table("images") as images:
        for name in ("sent_at", "sent_to", "sent_attempts"):
            images.drop_column(name)
