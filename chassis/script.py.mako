"""${message}"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

from chassis.migrations import notify_on_insert_into_outbox
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
    notify_on_insert_into_outbox()  # first migration only


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
