"""mails about confirmed orders for which another card is needed"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

CARD_NEEDED = """Hello,

we take the money for your order as its parcels leave, and your card was declined for it. Please name another card by {{ pay_until }}.
What has not left until then is cancelled.

Order: {{ order_id }}
"""


def upgrade() -> None:
    op.bulk_insert(
        sa.table("templates", *map(sa.column, ("kind", "subject", "body", "updated_at", "version"))),
        [
            {
                "kind": "card_needed",
                "subject": "Another card is needed for your order",
                "body": CARD_NEEDED,
                "updated_at": datetime.now(UTC),
                "version": 1,
            }
        ],
    )


def downgrade() -> None:
    op.execute("delete from notifications where kind = 'card_needed'")
    op.execute("delete from templates where kind = 'card_needed'")
