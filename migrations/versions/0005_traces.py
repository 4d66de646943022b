"""The trace that an image's upload belongs to, so that what is done for it later goes on with that trace."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("traceparent", sa.Text()))


def downgrade() -> None:
    with op.batch_alter_table("images") as images:
        images.drop_column("traceparent")
