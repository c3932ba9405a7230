"""bank transfers: what customers are asked for, what came in, and what the bank is asked to pay"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _time(name: str, *, nullable: bool = False) -> "sa.Column[datetime]":
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "transfers",
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("reference", sa.String(25), nullable=False),
        sa.Column("charge", sa.String(60), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("recipient", sa.String(70), nullable=False),
        sa.Column("iban", sa.String(34), nullable=False),
        sa.Column("received_minor", sa.BigInteger(), nullable=False),
        sa.Column("told_minor", sa.BigInteger(), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        _time("captured_at", nullable=True),
        _time("reversed_at", nullable=True),
        _time("created_at"),
        sa.CheckConstraint(
            "0 <= refunded_minor and refunded_minor <= received_minor", name=op.f("ck_transfers_sums_within_bounds")
        ),
        sa.CheckConstraint("received_minor <= amount_minor", name=op.f("ck_transfers_takes_what_was_asked")),
        sa.PrimaryKeyConstraint("reference", name=op.f("pk_transfers")),
        sa.UniqueConstraint("charge", name=op.f("uq_transfers_charge")),
    )
    op.create_index("ix_transfers_untold", "transfers", ["reference"], postgresql_where=sa.text("received_minor <> told_minor"))
    op.create_table(
        "bank_orders",
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("end_to_end_id", sa.String(35), nullable=False),
        sa.Column("reference", sa.String(25), nullable=False),
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("name", sa.String(140), nullable=True),
        sa.Column("iban", sa.String(34), nullable=True),
        sa.Column("state", sa.String(40), nullable=False),
        sa.Column("told", sa.String(40), nullable=False),
        sa.Column("failure", sa.String(100), nullable=True),
        _time("created_at"),
        _time("sent_at", nullable=True),
        _time("settled_at", nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_bank_orders_moves_something")),
        sa.ForeignKeyConstraint(["reference"], ["transfers.reference"], name=op.f("fk_bank_orders_reference")),
        sa.PrimaryKeyConstraint("end_to_end_id", name=op.f("pk_bank_orders")),
    )
    op.create_index("ix_bank_orders_reference", "bank_orders", ["reference"])
    op.create_index("ix_bank_orders_to_send", "bank_orders", ["created_at"], postgresql_where=sa.text("state = 'TO_SEND'"))
    op.create_index(
        "ix_bank_orders_untold",
        "bank_orders",
        ["end_to_end_id"],
        postgresql_where=sa.text("state <> told and state in ('SUCCEEDED', 'FAILED')"),
    )
    op.create_table(
        "bank_entries",
        sa.Column("entry_id", sa.String(100), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("reference", sa.String(25), nullable=True),
        sa.Column("end_to_end_id", sa.String(35), nullable=True),
        sa.Column("taken_minor", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(140), nullable=True),
        sa.Column("iban", sa.String(34), nullable=True),
        sa.Column("words", sa.String(500), nullable=True),
        _time("booked_at"),
        _time("seen_at"),
        sa.CheckConstraint("0 <= taken_minor and taken_minor <= amount_minor", name=op.f("ck_bank_entries_takes_what_came")),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_bank_entries")),
    )
    op.create_index("ix_bank_entries_reference", "bank_entries", ["reference"])


def downgrade() -> None:
    op.drop_table("bank_entries")
    op.drop_table("bank_orders")
    op.drop_table("transfers")
