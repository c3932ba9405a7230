"""Whose telephone it is can be asked: who answers STOP is sent no SMS any more."""

from alembic import op
from sqlalchemy import text

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_people_phone", "people", ["phone"], postgresql_where=text("phone is not null"))


def downgrade() -> None:
    op.drop_index("ix_people_phone", "people")
