"""accounts, links and profiles"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("phone", sqlmodel.sql.sqltypes.AutoString(length=20), nullable=True))
    op.add_column("users", sa.Column("addresses", postgresql.JSONB(), server_default="[]", nullable=False))
    op.add_column(
        "users", sa.Column("language", sqlmodel.sql.sqltypes.AutoString(length=10), server_default="en", nullable=False)
    )
    op.alter_column("users", "addresses", server_default=None)
    op.alter_column("users", "language", server_default=None)
    # Until now an address had one account at most, and its owner logs in with it: it stays theirs.
    op.execute("update users set email_verified_at = created_at")
    op.drop_constraint("uq_users_email", "users", type_="unique")
    op.create_index(
        "uq_users_verified_email", "users", ["email"], unique=True, postgresql_where=sa.text("email_verified_at is not null")
    )
    op.create_table(
        "account_links",
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column(
            "purpose",
            sa.Enum(
                "verify_email",
                "password_reset",
                "email_change_old",
                "email_change_new",
                name="linkpurpose",
                native_enum=False,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("subject", sqlmodel.sql.sqltypes.AutoString(length=254), nullable=False),
        sa.Column("email", sqlmodel.sql.sqltypes.AutoString(length=254), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("token_hash", sqlmodel.sql.sqltypes.AutoString(length=64), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_account_links_user_id")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_account_links")),
        sa.UniqueConstraint("purpose", "subject", name=op.f("uq_account_links_purpose_subject")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_account_links_token_hash")),
    )
    op.create_index(op.f("ix_account_links_expires_at"), "account_links", ["expires_at"], unique=False)
    op.create_index(op.f("ix_account_links_user_id"), "account_links", ["user_id"], unique=False)
    op.create_table(
        "mail_guards",
        sa.Column("key", sqlmodel.sql.sqltypes.AutoString(length=254), nullable=False),
        sa.Column("mails", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_mail_guards")),
    )
    op.create_index(op.f("ix_mail_guards_since"), "mail_guards", ["since"], unique=False)


def downgrade() -> None:
    op.drop_table("mail_guards")
    op.drop_table("account_links")
    op.drop_index("uq_users_verified_email", table_name="users")
    op.create_unique_constraint(op.f("uq_users_email"), "users", ["email"])
    for column in ("language", "addresses", "phone", "email_verified_at"):
        op.drop_column("users", column)
