"""mails about orders that were amended"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

AMENDED = """Hello,

your order was changed. It comes to {{ total }} now.
{% if charged %}
{{ charged }} more are charged for it.
{% endif %}
{% if refunded %}
{{ refunded }} are on their way back to you.
{% endif %}

Order: {{ order_id }}
"""


def upgrade() -> None:
    op.bulk_insert(
        sa.table("templates", *map(sa.column, ("kind", "subject", "body", "updated_at", "version"))),
        [
            {
                "kind": "order_amended",
                "subject": "Your order was changed",
                "body": AMENDED,
                "updated_at": datetime.now(UTC),
                "version": 1,
            }
        ],
    )


def downgrade() -> None:
    op.execute("delete from notifications where kind = 'order_amended'")
    op.execute("delete from templates where kind = 'order_amended'")
