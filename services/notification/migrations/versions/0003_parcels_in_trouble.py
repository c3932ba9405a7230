"""mails about parcels that do not arrive"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UNDELIVERED = """Hello,

{% if trouble == "returned" %}
your parcel could not be delivered and has come back to us.
{% else %}
we are sorry: the carrier has lost your parcel.
{% endif %}
You need not do anything. We are looking into it, and will either send your order again or give you your money back. If the parcel
arrives after all, please keep it and answer this mail.

Order: {{ order_id }}
"""
REFUNDED = """Hello,

we are sorry that your order did not reach you. {{ refunded }} are on their way back to you.

Order: {{ order_id }}
"""
TEXTS = {
    "order_undelivered": ("Your parcel did not arrive", UNDELIVERED),
    "order_refunded": ("Your money is on its way back", REFUNDED),
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
    op.execute("delete from notifications where kind in ('order_undelivered', 'order_refunded')")
    op.execute("delete from templates where kind in ('order_undelivered', 'order_refunded')")
