"""no contacts, and mails about accounts"""

from datetime import UTC, datetime

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CONFIRMED = """Hello,

thank you for your order. We have received your payment of {{ total }} and are packing your parcel.

Order: {{ order_id }}
{% if tracking_number %}
Tracking number: {{ tracking_number }}
{% endif %}
"""
SHIPPED = """Hello,

your parcel has left our warehouse.

Order: {{ order_id }}
{% if tracking_number %}
Tracking number: {{ tracking_number }}
{% endif %}
"""
DELIVERED = """Hello,

the carrier tells us that your parcel has arrived. If you do not have it, please answer this mail.

Order: {{ order_id }}
"""
CANCELLED = """Hello,

your order has been cancelled.{% if refunded %} {{ refunded }} are on their way back to you.{% endif %}


Order: {{ order_id }}
"""
VERIFY = """Hello,

an account was opened at our shop with this address. Is it yours? Then confirm it within 24 hours:

{{ link }}

If this was not you, ignore this mail; nothing else will be sent to you.
"""
EXISTS = """Hello,

somebody, probably you, entered this address at our shop. You have an account here already: log in with it.

If you do not remember the password, you can choose a new one within the hour:

{{ link }}

If this was not you, ignore this mail.
"""
RESET = """Hello,

with this link you can choose a new password within the hour; it works once:

{{ link }}

If you did not ask for it, ignore this mail; your password stays as it is.
"""
CHANGE_OLD = """Hello,

somebody who knows your password wants to change the e-mail of your account to another address. Here you can agree within the hour, or
stop it:

{{ link }}

If you do nothing, nothing changes. If this was not you, change your password now.
"""
CHANGE_NEW = """Hello,

an account at our shop wants to use this address from now on. If that is yours, confirm it within the hour:

{{ link }}

If this was not you, ignore this mail; nothing else will be sent to you.
"""
ORDER_TEXTS = {
    "order_confirmed": CONFIRMED,
    "order_shipped": SHIPPED,
    "order_delivered": DELIVERED,
    "order_cancelled": CANCELLED,
}
ACCOUNT_TEXTS = {
    "verify_email": ("Confirm your e-mail", VERIFY),
    "account_exists": ("You have an account already", EXISTS),
    "password_reset": ("Choose a new password", RESET),
    "email_change_old": ("Your e-mail is about to change", CHANGE_OLD),
    "email_change_new": ("Confirm your new e-mail", CHANGE_NEW),
}


def upgrade() -> None:
    op.drop_table("contacts")
    op.alter_column("notifications", "order_id", nullable=True)
    op.alter_column("notifications", "customer_id", nullable=True)
    op.add_column("notifications", sa.Column("request_id", sa.Uuid(), nullable=True))
    templates = sa.table("templates", *map(sa.column, ("kind", "subject", "body", "updated_at", "version")))
    # The name and the reason are customers' own words, which no mail carries any more: texts that name them would not render.
    for kind, body in ORDER_TEXTS.items():
        op.execute(templates.update().where(templates.c.kind == kind).values(body=body, version=templates.c.version + 1))
    op.bulk_insert(
        templates,
        [
            {"kind": kind, "subject": subject, "body": body, "updated_at": datetime.now(UTC), "version": 1}
            for kind, (subject, body) in ACCOUNT_TEXTS.items()
        ],
    )


def downgrade() -> None:
    op.execute("delete from templates where kind not like 'order_%'")
    op.execute("delete from notifications where order_id is null")
    op.drop_column("notifications", "request_id")
    op.alter_column("notifications", "customer_id", nullable=False)
    op.alter_column("notifications", "order_id", nullable=False)
    op.create_table(
        "contacts",
        sa.Column("customer_id", sa.Uuid(), nullable=False),
        sa.Column("email", sqlmodel.sql.sqltypes.AutoString(length=320), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(length=200), nullable=False),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_contacts")),
    )
