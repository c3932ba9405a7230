"""deliveries by every channel with their attempts, texts per channel and language in versions, people's choices, the inbox"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What stands in the inbox, and goes out by SMS and push where there is nothing else for them.
SHORT = {
    "order_confirmed": ("Your order is confirmed", "We have received your payment{% if total %} of {{ total }}{% endif %}."),
    "order_shipped": (
        "Your order is on its way",
        "{% if tracking_number %}Follow it: {{ tracking_number }}{% else %}It has left.{% endif %}",
    ),
    "order_delivered": ("Your order has arrived", "If you do not have it, please tell us."),
    "part_shipped": (
        "A part of your order is on its way",
        "{% if parcel %}Parcel {{ parcel }} of {{ parcels }}. {% endif %}{% if tracking_number %}Follow it: {{ tracking_number }}{% else %}"
        "The rest follows.{% endif %}",
    ),
    "part_delivered": (
        "A part of your order was delivered",
        "{% if parcel %}Parcel {{ parcel }} of {{ parcels }}.{% else %}The rest follows.{% endif %}",
    ),
    "payment_due": ("Your card was declined", "Pay {{ total }} with another card by {{ pay_until }}, or the order is cancelled."),
    "card_needed": (
        "Another card is needed for your order",
        "Please name one by {{ pay_until }}. What has not left until then is cancelled.",
    ),
    "goods_delayed": (
        "A part of your order is delayed",
        "It was expected on {{ was_expected_on }}. {% if expected_on %}We expect it on {{ expected_on }} now.{% else %}"
        "We do not know yet when it comes.{% endif %}",
    ),
    "order_cancelled": (
        "Your order is cancelled",
        "{% if refunded %}{{ refunded }} are on their way back to you.{% else %}Nothing was taken.{% endif %}",
    ),
    "order_undelivered": (
        "Your parcel did not arrive",
        '{{ "It has come back to us." if trouble == "returned" else "The carrier has lost it." }} We are looking into it.',
    ),
    "order_refunded": ("Your money is on its way back", "{{ refunded }} are on their way back to you."),
    "order_amended": ("Your order was changed", "It comes to {{ total }} now."),
    "part_cancelled": (
        "A part of your order was cancelled",
        "{% if refunded %}{{ refunded }} are on their way back to you.{% else %}The rest of it goes on.{% endif %}",
    ),
    "return_approved": (
        'Your {{ "claim" if is_claim else "return" }} is accepted',
        "{% if is_claim %}We settle it now.{% else %}Please send the goods back{% if until %} by {{ until }}{% endif %}.{% endif %}",
    ),
    "return_rejected": ('Your {{ "claim" if is_claim else "return" }} was not accepted', "If you do not agree, please tell us."),
    "return_reminder": (
        "Your return has not come yet",
        "{% if until %}It has to be with us by {{ until }}.{% else %}Please send it soon.{% endif %}",
    ),
    "return_received": ("Your return has come", "We settle it now."),
    "return_completed": (
        'Your {{ "claim" if is_claim else "return" }} is settled',
        "{% if refunded %}{{ refunded }} are on their way back to you.{% elif replacement_id %}A new order brings it.{% else %}"
        "Nothing goes back to you.{% endif %}",
    ),
    "return_expired": ("Your return has ended", "The goods did not come to us in time."),
    "password_changed": ("Your password was changed", "If this was not you, choose a new one at once."),
    "payment_action": (
        "{% if url %}Please confirm your payment{% else %}Please transfer {{ total }}{% endif %}",
        "{% if url %}By {{ until }}: {{ url }}{% else %}By {{ until }}, to {{ iban }}, with the reference {{ reference }}.{% endif %}",
    ),
    "refund_failed": ("A refund failed", "{{ amount }} did not get back to the customer: {{ failure }}."),
    "dispute_opened": ("A payment is disputed", "The bank took {{ amount }} back{% if why %}: {{ why }}{% endif %}."),
    "dispute_closed": ("A dispute is decided", '{{ amount }}: {{ "won" if is_won else "lost" }}.'),
    "decision_needed": ("An order needs a decision", "Its parcel does not arrive: {{ trouble }}."),
    "customer_unreached": ("A customer was not reached", "{{ about }} did not arrive by {{ channel }}."),
    "low_stock": ("{{ count }} products run out at {{ warehouse }}", "{{ products }}"),
    "product_withdrawn": ("A product is not sold any more", "{{ product_id }}: what is on the shelf of it stays there."),
}
PHONE_CODE = ("Your code", "{{ code }} is your code. It holds for ten minutes. If you did not ask for it, ignore this.")
CHANGED = """Hello,

the password of your account was changed. You are logged out everywhere.

If this was not you, choose a new password at once: on the login page, with "Forgotten?".
"""
PAYMENT_ACTION = """Hello,

{% if url %}
your bank wants you to confirm the payment of {{ total }}. Please do so by {{ until }}:

{{ url }}
{% else %}
please transfer {{ total }} by {{ until }}:

To: {{ recipient }}
IBAN: {{ iban }}
Reference: {{ reference }}
{% endif %}

We keep your goods until then. If the money does not come, the order is cancelled, and nothing is charged.

Order: {{ order_id }}
"""
REFUND_FAILED = """A refund did not get to the customer: {{ amount }}. It is owed, and the order waits for it.

What the card processor said: {{ failure }}
Order: {{ order_id }}
"""
DISPUTE_OPENED = """A customer's bank has taken {{ amount }} back, until it is decided whose it is.
{% if why %}

Why: {{ why }}
{% endif %}

Order: {{ order_id }}
Payment: {{ payment_id }}
"""
DISPUTE_CLOSED = """The bank has decided: {{ amount }} {{ "are ours again" if is_won else "are the customer's" }}.

Order: {{ order_id }}
Payment: {{ payment_id }}
"""
DECISION_NEEDED = """{% if parcel %}Parcel {{ parcel }} of an order{% else %}The parcel of an order{% endif %} does not arrive: {{ trouble }}.

Somebody has to decide whether it is sent again or paid back: commerce orders show {{ order_id }}
"""
LOW_STOCK = """At warehouse {{ warehouse }}:

{{ products }}
"""
MAILS = {
    "password_changed": ("Your password was changed", CHANGED),
    "payment_action": ("{% if url %}Please confirm your payment{% else %}How to pay for your order{% endif %}", PAYMENT_ACTION),
    "refund_failed": ("A refund failed: {{ amount }}", REFUND_FAILED),
    "dispute_opened": ("A payment is disputed: {{ amount }}", DISPUTE_OPENED),
    "dispute_closed": ('A dispute is {{ "won" if is_won else "lost" }}: {{ amount }}', DISPUTE_CLOSED),
    "decision_needed": ("An order needs a decision", DECISION_NEEDED),
    "low_stock": ("{{ count }} products run out at {{ warehouse }}", LOW_STOCK),
}


def upgrade() -> None:
    _notifications()
    _people()
    _texts()


def _notifications() -> None:
    op.add_column("notifications", sa.Column("audience", sa.String(40), nullable=False, server_default="customer"))
    op.add_column("notifications", sa.Column("warehouse_id", sa.String(40), nullable=True))
    op.add_column("notifications", sa.Column("language", sa.String(20), nullable=False, server_default="en"))
    op.add_column("notifications", sa.Column("is_in_inbox", sa.Boolean(), nullable=False, server_default="false"))
    op.add_column("notifications", sa.Column("is_planned", sa.Boolean(), nullable=False, server_default="true"))
    op.create_index(
        "ix_notifications_audience",
        "notifications",
        ["audience", "notification_id"],
        postgresql_where=sa.text("audience <> 'customer'"),
    )
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("target", sa.String(320), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.String(500), nullable=True),
        sa.Column("provider_id", sa.String(200), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_deliveries")),
    )
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(40), nullable=False),
        sa.Column("reason", sa.String(500), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id", "number", name=op.f("pk_attempts")),
    )
    # What is not settled stays with the build that may be sending it just now; it is taken over when its time has come.
    op.execute(
        """insert into deliveries (delivery_id, notification_id, channel, target, status, attempts, reason, sent_at)
           select notification_id, notification_id, 'email', '', status, attempts, reason, sent_at
           from notifications where due_at is null"""
    )
    op.execute("update notifications set reason = null where due_at is null and reason is not null")
    op.execute("update notifications set is_planned = false where due_at is not null")
    # A build before this one neither knows the column nor the deliveries; what it queues from now on is taken over.
    op.alter_column("notifications", "is_planned", server_default="false")
    op.create_index(
        "ix_notifications_unplanned", "notifications", ["notification_id"], postgresql_where=sa.text("not is_planned")
    )
    op.create_index("ix_deliveries_due", "deliveries", ["channel", "due_at"], postgresql_where=sa.text("due_at is not null"))
    op.create_index("ix_deliveries_notification_id", "deliveries", ["notification_id"])
    op.create_index(
        "ix_deliveries_provider_id", "deliveries", ["channel", "provider_id"], postgresql_where=sa.text("provider_id is not null")
    )
    # The columns that deliveries have now. The build before shows them, and never sends what this one queues.
    op.alter_column("notifications", "status", server_default="SENT")
    op.alter_column("notifications", "attempts", server_default="0")


def _people() -> None:
    op.create_table(
        "people",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("language", sa.String(20), nullable=True),
        sa.Column("time_zone", sa.String(60), nullable=False),
        sa.Column("quiet_from", sa.Time(), nullable=True),
        sa.Column("quiet_until", sa.Time(), nullable=True),
        sa.Column("choices", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.Column("phone", sa.String(16), nullable=True),
        sa.Column("wanted_phone", sa.String(16), nullable=True),
        sa.Column("code_digest", sa.LargeBinary(), nullable=True),
        sa.Column("code_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code_tries", sa.Integer(), nullable=False),
        sa.Column("browsers", postgresql.JSONB(), nullable=False, server_default="[]"),
        sa.Column("suppressed", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("allowances", postgresql.JSONB(), nullable=False, server_default="{}"),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_people")),
    )
    op.create_table(
        "inbox_readers",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("read_up_to", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_inbox_readers")),
    )
    op.create_table(
        "read_marks",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("person_id", "notification_id", name=op.f("pk_read_marks")),
    )
    op.create_table(
        "low_stock",
        sa.Column("warehouse_id", sa.String(40), nullable=False),
        sa.Column("product_id", sa.String(40), nullable=False),
        sa.Column("available", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("warehouse_id", "product_id", name=op.f("pk_low_stock")),
    )


def _texts() -> None:
    op.create_table(
        "texts",
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.PrimaryKeyConstraint("kind", "channel", "language", name=op.f("pk_texts")),
    )
    op.create_table(
        "text_versions",
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("language", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("body", sa.String(20_000), nullable=False),
        sa.Column("html", sa.String(60_000), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "channel", "language", "number", name=op.f("pk_text_versions")),
    )
    # The texts of mails as they are now; the table that they were in is left to the build before.
    op.execute(
        """insert into texts (kind, channel, language, live, latest, updated_at, version)
           select kind, 'email', 'en', 1, 1, updated_at, version from templates"""
    )
    op.execute(
        """insert into text_versions (kind, channel, language, number, subject, body, created_at)
           select kind, 'email', 'en', 1, subject, body, updated_at from templates"""
    )
    _add("inbox", SHORT)
    _add("sms", {"phone_code": PHONE_CODE})
    _add("email", MAILS)


def _add(channel: str, texts: dict[str, tuple[str, str]]) -> None:
    now = datetime.now(UTC)
    names = ("kind", "channel", "language", "live", "latest", "updated_at", "version")
    op.bulk_insert(
        sa.table("texts", *map(sa.column, names)),
        [dict(zip(names, (kind, channel, "en", 1, 1, now, 1), strict=True)) for kind in texts],
    )
    names = ("kind", "channel", "language", "number", "subject", "body", "created_at")
    op.bulk_insert(
        sa.table("text_versions", *map(sa.column, names)),
        [dict(zip(names, (kind, channel, "en", 1, subject, body, now), strict=True)) for kind, (subject, body) in texts.items()],
    )


def downgrade() -> None:
    op.execute("delete from notifications where audience <> 'customer'")
    op.execute(
        """update notifications as n set status = case d.status when 'WAITING' then 'PENDING' when 'DELIVERED' then 'SENT'
             when 'BOUNCED' then 'FAILED' else d.status end, attempts = d.attempts, due_at = d.due_at, reason = d.reason,
             sent_at = d.sent_at
           from deliveries as d where d.delivery_id = n.notification_id"""
    )
    op.alter_column("notifications", "attempts", server_default=None)
    op.alter_column("notifications", "status", server_default=None)
    for table in ("text_versions", "texts", "low_stock", "read_marks", "inbox_readers", "people", "attempts", "deliveries"):
        op.drop_table(table)
    op.drop_index("ix_notifications_unplanned", "notifications")
    op.drop_index("ix_notifications_audience", "notifications")
    for column in ("is_planned", "is_in_inbox", "language", "warehouse_id", "audience"):
        op.drop_column("notifications", column)
