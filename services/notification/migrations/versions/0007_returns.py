"""mails about returns and claims, and about parts of an order that were cancelled"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PART_CANCELLED = """Hello,

a part of your order was cancelled{% if units %}: {{ units }} {{ "unit" if units == "1" else "units" }}{% endif %}. The rest of it goes on.
{% if refunded %}
{{ refunded }} are on their way back to you.
{% endif %}

Order: {{ order_id }}
"""
APPROVED = """Hello,

{% if is_claim %}
we have accepted your claim, and settle it now. You need not send anything back.
{% elif tracking_number %}
you can send your goods back. Put the label on the parcel and hand it to the carrier{% if until %} in time, so that it is with us by {{ until }}{% endif %}.
The label's tracking number: {{ tracking_number }}
{% else %}
please bring your goods back, or send them{% if warehouse %}, to our warehouse {{ warehouse }}{% endif %}{% if until %}; they have to be there by {{ until }}{% endif %}.
Say with them that they are return {{ number }} of the order below.
{% endif %}

Order: {{ order_id }}
"""
REJECTED = """Hello,

{% if is_claim %}
we could not accept your claim.
{% else %}
we could not accept the return that you asked for. Please do not send anything back.
{% endif %}
If you do not agree, answer this mail.

Order: {{ order_id }}
"""
REMINDER = """Hello,

the goods that you want to return have not come to us yet.{% if until %} They have to be with us by {{ until }}; after that the return
ends, and nothing goes back to you.{% endif %}

If you keep them, you need not do anything.

Order: {{ order_id }}
"""
RECEIVED = """Hello,

your return has come to us. We settle it now, and write to you again when that is done.

Order: {{ order_id }}
"""
COMPLETED = """Hello,

your {{ "claim" if is_claim else "return" }} is settled.
{% if refunded %}
{{ refunded }} are on their way back to you.
{% endif %}
{% if replacement_id %}
{{ "We send you the goods once more" if is_resend else "What you get instead comes" }} as an order of its own: {{ replacement_id }}
{% endif %}
{% if not refunded and not replacement_id %}
Nothing goes back to you. If you do not know why, answer this mail.
{% endif %}

Order: {{ order_id }}
"""
EXPIRED = """Hello,

the goods that you wanted to return did not come to us in time, so that the return has ended. If you have sent them, answer this mail
and tell us when and how.

Order: {{ order_id }}
"""
TEXTS = {
    "part_cancelled": ("A part of your order was cancelled", PART_CANCELLED),
    "return_approved": ('Your {{ "claim" if is_claim else "return" }} is accepted', APPROVED),
    "return_rejected": ('Your {{ "claim" if is_claim else "return" }} was not accepted', REJECTED),
    "return_reminder": ("Your return has not come yet", REMINDER),
    "return_received": ("Your return has come", RECEIVED),
    "return_completed": ('Your {{ "claim" if is_claim else "return" }} is settled', COMPLETED),
    "return_expired": ("Your return has ended", EXPIRED),
}
KINDS = ", ".join(f"'{kind}'" for kind in TEXTS)


def upgrade() -> None:
    op.bulk_insert(
        sa.table("templates", *map(sa.column, ("kind", "subject", "body", "updated_at", "version"))),
        [
            {"kind": kind, "subject": subject, "body": body, "updated_at": datetime.now(UTC), "version": 1}
            for kind, (subject, body) in TEXTS.items()
        ],
    )


def downgrade() -> None:
    op.execute(f"delete from notifications where kind in ({KINDS})")  # noqa: S608 - our own words only
    op.execute(f"delete from templates where kind in ({KINDS})")  # noqa: S608
