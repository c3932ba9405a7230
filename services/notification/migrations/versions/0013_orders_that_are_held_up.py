"""what customers are told of an order that takes long until it is confirmed"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

MAIL = """Hello,

we have your order over {{ total }}, and it takes longer than usual until it is confirmed: a company that we work with does not
answer at the moment. We keep trying.

You need not do anything, and need not order again: you pay once. We write as soon as it is confirmed, or if it cannot be.

Order: {{ order_id }}
"""
SHORT = "It is not confirmed yet. We keep trying; you need not do anything."
TEXTS = {"email": MAIL, "inbox": SHORT}
SUBJECT = "Your order takes a little longer"


def upgrade() -> None:
    now = datetime.now(UTC)
    names = ("kind", "channel", "language", "live", "latest", "updated_at", "version")
    op.bulk_insert(
        sa.table("texts", *map(sa.column, names)),
        [dict(zip(names, ("order_held_up", channel, "en", 1, 1, now, 1), strict=True)) for channel in TEXTS],
    )
    names = ("kind", "channel", "language", "number", "subject", "body", "created_at")
    op.bulk_insert(
        sa.table("text_versions", *map(sa.column, names)),
        [
            dict(zip(names, ("order_held_up", channel, "en", 1, SUBJECT, body, now), strict=True))
            for channel, body in TEXTS.items()
        ],
    )


def downgrade() -> None:
    op.execute(
        """delete from attempts as a using deliveries as d, notifications as n
           where a.delivery_id = d.delivery_id and d.notification_id = n.notification_id and n.kind = 'order_held_up'"""
    )
    op.execute(
        """delete from deliveries as d using notifications as n
           where d.notification_id = n.notification_id and n.kind = 'order_held_up'"""
    )
    op.execute("delete from notifications where kind = 'order_held_up'")
    op.execute("delete from text_versions where kind = 'order_held_up'")
    op.execute("delete from texts where kind = 'order_held_up'")
