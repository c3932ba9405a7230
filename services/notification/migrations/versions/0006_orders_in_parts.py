"""mails about orders in parts: one of several parcels, goods that are delayed, a card that was declined"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PART_SHIPPED = """Hello,

a part of your order has left{% if parcel %}: parcel {{ parcel }} of {{ parcels }}{% endif %}.
{% if tracking_number %}
Follow it: {{ tracking_number }}
{% endif %}
The rest follows; there is a mail about each parcel.

Order: {{ order_id }}
"""
PART_DELIVERED = """Hello,

a part of your order was delivered{% if parcel %}: parcel {{ parcel }} of {{ parcels }}{% endif %}.
{% if tracking_number %}
Tracking number: {{ tracking_number }}
{% endif %}

Order: {{ order_id }}
"""
PAYMENT_DUE = """Hello,

your card was declined. Nothing was taken. We keep your goods until {{ pay_until }}: pay {{ total }} with another card by then, or the
order is cancelled.

Order: {{ order_id }}
"""
GOODS_DELAYED = """Hello,

goods of your order that were expected on {{ was_expected_on }} come later.
{% if expected_on %}
We expect them on {{ expected_on }} now.
{% else %}
We do not know yet when they come.
{% endif %}
You need not do anything: we send them as soon as they are here. If you do not want to wait, cancel them; you get the money back.

Order: {{ order_id }}
"""
TEXTS = {
    "part_shipped": ("A part of your order is on its way", PART_SHIPPED),
    "part_delivered": ("A part of your order was delivered", PART_DELIVERED),
    "payment_due": ("Your card was declined", PAYMENT_DUE),
    "goods_delayed": ("A part of your order is delayed", GOODS_DELAYED),
}


def upgrade() -> None:
    op.bulk_insert(
        sa.table("templates", *map(sa.column, ("kind", "subject", "body", "updated_at", "version"))),
        [
            {"kind": kind, "subject": subject, "body": body, "updated_at": datetime.now(UTC), "version": 1}
            for kind, (subject, body) in TEXTS.items()
        ],
    )


def downgrade() -> None:
    op.execute("delete from notifications where kind in ('part_shipped', 'part_delivered', 'payment_due', 'goods_delayed')")
    op.execute("delete from templates where kind in ('part_shipped', 'part_delivered', 'payment_due', 'goods_delayed')")
