"""discount codes"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "discounts",
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("basis_points", sa.Integer(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("minimum_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(length=3), nullable=True),
        sa.Column("valid_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("max_uses_per_customer", sa.Integer(), nullable=True),
        sa.Column("combinable", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(kind = 'percent') = (basis_points is not null)", name=op.f("ck_discounts_percent")),
        sa.CheckConstraint("(kind = 'amount') = (amount_minor is not null)", name=op.f("ck_discounts_amount")),
        sa.CheckConstraint(
            "currency is not null or (amount_minor is null and minimum_minor is null)", name=op.f("ck_discounts_in_a_currency")
        ),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_discounts")),
    )
    op.create_table(
        "discount_uses",
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("times_used", sa.Integer(), nullable=False),
        sa.CheckConstraint("times_used >= 0", name=op.f("ck_discount_uses_not_negative")),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_discount_uses")),
    )
    op.create_table(
        "redemptions",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("given_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("order_id", "code", name=op.f("pk_redemptions")),
    )
    op.create_index("ix_redemptions_code", "redemptions", ["code", "redeemed_at", "order_id"], unique=False)
    op.create_index(
        "ix_redemptions_customer",
        "redemptions",
        ["customer_id", "code"],
        unique=False,
        postgresql_where=sa.text("given_back_at is null"),
    )


def downgrade() -> None:
    op.drop_table("redemptions")
    op.drop_table("discount_uses")
    op.drop_table("discounts")
