"""Whose browser it is can be asked: when another person subscribes in it, the one before gets nothing more there."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_people_browsers", "people", ["browsers"], postgresql_using="gin", postgresql_ops={"browsers": "jsonb_path_ops"}
    )


def downgrade() -> None:
    op.drop_index("ix_people_browsers", "people")
