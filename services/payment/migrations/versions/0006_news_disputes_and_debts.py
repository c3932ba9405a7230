"""what the provider tells, disputes, and what the shop owes"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> "sa.Column[datetime]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "disputes",
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("dispute_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.String(200), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("reason", sa.String(100), nullable=True),
        sa.Column("state", sa.String(40), nullable=False),
        _time("opened_at"),
        _time("closed_at", nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_disputes_is_about_something")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_disputes_payment_id")),
        sa.PrimaryKeyConstraint("dispute_id", name=op.f("pk_disputes")),
        sa.UniqueConstraint("provider_id", name=op.f("uq_disputes_provider_id")),
    )
    op.create_index("ix_disputes_payment_id", "disputes", ["payment_id"])
    op.create_index("ix_disputes_open", "disputes", ["opened_at"], postgresql_where=sa.text("closed_at is null"))
    op.create_table(
        "provider_news",
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("news_id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("reference", sa.String(200), nullable=True),
        sa.Column("charge_id", sa.String(200), nullable=False),
        sa.Column("movement_id", sa.String(200), nullable=True),
        sa.Column("key", sa.String(100), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("told", sa.String(40), nullable=False),
        sa.Column("reason", sa.String(100), nullable=True),
        _time("occurred_at"),
        sa.Column("state", sa.String(40), nullable=False),
        _time("received_at"),
        _time("look_at"),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("news_id", name=op.f("pk_provider_news")),
    )
    op.create_index("ix_provider_news_due", "provider_news", ["look_at"], postgresql_where=sa.text("state = 'WAITING'"))
    op.create_table(
        "debts",
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("debt_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("key", sa.String(80), nullable=True),
        sa.Column("reference", sa.String(200), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("why", sa.String(100), nullable=False),
        _time("since"),
        _time("settled_at", nullable=True),
        sa.Column("settled_by", sa.Uuid(), nullable=True),
        sa.Column("settled_how", sa.String(500), nullable=True),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_debts_payment_id")),
        sa.PrimaryKeyConstraint("debt_id", name=op.f("pk_debts")),
        sa.UniqueConstraint("kind", "subject", name=op.f("uq_debts_kind_subject")),
    )
    op.create_index("ix_debts_open", "debts", ["debt_id"], postgresql_where=sa.text("settled_at is null"))


def downgrade() -> None:
    for table in ("debts", "provider_news", "disputes"):
        op.drop_table(table)
