"""price history"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "price_history",
        sa.Column("product_id", sa.String(length=40), nullable=False),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("amount", sa.Numeric(precision=14, scale=3), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.PrimaryKeyConstraint("product_id", "valid_from", name=op.f("pk_price_history")),
    )
    op.create_index(
        "ix_price_history_current", "price_history", ["product_id"], unique=True, postgresql_where=sa.text("valid_to is null")
    )
    # Nobody wrote down what a product cost before: it is taken to have cost for ever what it costs now.
    op.execute(
        "insert into price_history (product_id, valid_from, valid_to, amount, currency)"
        " select product_id, timestamptz 'epoch', deleted_at, amount, currency from products"
    )


def downgrade() -> None:
    op.drop_index("ix_price_history_current", table_name="price_history", postgresql_where=sa.text("valid_to is null"))
    op.drop_table("price_history")
