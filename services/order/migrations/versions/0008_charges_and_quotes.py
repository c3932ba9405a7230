"""charges and quotes"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("charges", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True))
    op.create_table(
        "quotes",
        sa.Column("quote_id", sa.Uuid(), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("priced_by", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("charges", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("quote_id", name=op.f("pk_quotes")),
    )
    op.create_index("ix_quotes_valid_until", "quotes", ["valid_until"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_quotes_valid_until", table_name="quotes")
    op.drop_table("quotes")
    op.drop_column("orders", "charges")
