"""${message}.

The program of the revision before goes on working with this one: old and new run side by side during an upgrade. So add, with
defaults; and drop or rename only what the program of the revision before does not use any more.
"""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "..."}


def downgrade() -> None:
    ${downgrades if downgrades else "..."}
