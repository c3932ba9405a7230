"""movements with a state of their own, a ledger in double entry, sums that the database keeps within bounds

All rows of `transactions` become movements with their entries. Processes of the version before go on writing and reading under
that name, which is a view now, and say of a payment only its status: two triggers do what they do not know of. The next migration
may drop all three.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OLD_BOUND, BOUND = "ck_payments_refunded_at_most_once", "ck_payments_sums_within_bounds"
NO_CHANGE = """
create function ledger_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'ledger_entries is append-only' using errcode = 'restrict_violation';
end $$;
create trigger ledger_is_append_only before update or delete or truncate on ledger_entries
for each statement execute function ledger_is_append_only()
"""
BALANCE = """
create function movement_balances() returns trigger language plpgsql as $$
begin
    if exists (
        select from ledger_entries where movement_id = new.movement_id group by currency having sum(amount_minor) <> 0
    ) then
        raise exception 'the entries of movement % do not add up to zero', new.movement_id using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger movement_balances after insert on ledger_entries deferrable initially deferred
for each row execute function movement_balances()
"""
# The charge is the first movement of a payment: it held the money, or took it at once. Ids rise with time, like those made now.
TRANSACTIONS = """
create view transactions as
select (select min(entry_id) from ledger_entries e where e.movement_id = m.movement_id) as transaction_id,
       payment_id, kind, amount_minor, currency, provider_id, settled_at as at
from movements m where state = 'SUCCEEDED';
create function carry_transaction() returns trigger language plpgsql as $$
declare
    held constant boolean := exists (select from movements where payment_id = new.payment_id and kind = 'authorize');
    id constant uuid := (
        lpad(to_hex((extract(epoch from new.at) * 1000)::bigint), 12, '0')
        || '7' || case new.kind when 'authorize' then '000' when 'capture' then '001' else '002' end
        || '8' || substr(md5(random()::text || new.payment_id), 1, 15)
    )::uuid;
begin
    insert into movements (movement_id, payment_id, kind, key, amount_minor, currency, state, is_last, provider_id, asked_at, settled_at)
    values (id, new.payment_id, new.kind,
            case when new.kind = 'authorize' or (new.kind = 'capture' and not held) then 'charge'
                 when new.kind = 'capture' then 'capture' else 'undo' end,
            new.amount_minor, new.currency, 'SUCCEEDED', new.kind = 'capture', new.provider_id, new.at, new.at);
    insert into ledger_entries (movement_id, account, amount_minor, currency, at)
    select id, account, amount, new.currency, new.at from (values
        (case new.kind when 'authorize' then 'customer' when 'refund' then 'provider' when 'void' then 'held'
                       else case when held then 'held' else 'customer' end end, -new.amount_minor),
        (case new.kind when 'authorize' then 'held' when 'capture' then 'provider' else 'customer' end, new.amount_minor)
    ) as side (account, amount);
    return new;
end $$;
create trigger carry_transaction instead of insert on transactions for each row execute function carry_transaction()
"""
SUMS = """
create function sums_of_status() returns trigger language plpgsql as $$
begin
    if new.status in ('CAPTURED', 'REFUNDED') then
        new.captured_minor := new.amount_minor;
    end if;
    if new.status in ('AUTHORIZED', 'CAPTURED', 'REFUNDED') then
        new.authorized_minor := new.amount_minor;
    else
        new.voided_minor := new.authorized_minor - new.captured_minor;
    end if;
    return new;
end $$;
create trigger sums_of_status before update of status on payments for each row
when (
    (new.status in ('CAPTURED', 'REFUNDED') and new.captured_minor = 0)
    or (new.status = 'AUTHORIZED' and new.authorized_minor = 0)
    or (new.status in ('DECLINED', 'VOIDED') and new.captured_minor + new.voided_minor < new.authorized_minor)
) execute function sums_of_status()
"""


def upgrade() -> None:
    for column in ("authorized_minor", "captured_minor", "voided_minor"):
        # The version before does not say them.
        op.add_column("payments", sa.Column(column, sa.BigInteger(), nullable=False, server_default="0"))
    for column in ("held_until", "undo_asked_at"):
        op.add_column("payments", sa.Column(column, sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "movements",
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("movement_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("purpose", sa.String(500), nullable=True),
        sa.Column("state", sa.String(40), nullable=False),
        sa.Column("is_last", sa.Boolean(), nullable=False),
        sa.Column("provider_id", sa.String(200), nullable=True),
        sa.Column("failure", sa.String(100), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_movements_moves_something")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_movements_payment_id")),
        sa.PrimaryKeyConstraint("movement_id", name=op.f("pk_movements")),
        sa.UniqueConstraint("payment_id", "kind", "key", name=op.f("uq_movements_payment_id_kind_key")),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("movement_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.String(40), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("ck_ledger_entries_moves_something")),
        sa.ForeignKeyConstraint(["movement_id"], ["movements.movement_id"], name=op.f("fk_ledger_entries_movement_id")),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_ledger_entries")),
    )
    op.create_index("ix_ledger_entries_movement_id", "ledger_entries", ["movement_id"])
    op.rename_table("transactions", "old_transactions")
    _execute(TRANSACTIONS)
    columns = "payment_id, kind, amount_minor, currency, provider_id, at"
    op.execute(f"insert into transactions ({columns}) select {columns} from old_transactions order by transaction_id")  # noqa: S608
    op.execute("""
        update payments p set authorized_minor = coalesce(held, taken, 0), captured_minor = coalesce(taken, 0),
                              voided_minor = coalesce(let_go, 0)
        from (select payment_id, sum(amount_minor) filter (where kind = 'authorize') as held,
                     sum(amount_minor) filter (where kind = 'capture') as taken,
                     sum(amount_minor) filter (where kind = 'void') as let_go
              from old_transactions group by payment_id) as moved
        where moved.payment_id = p.payment_id
    """)
    op.drop_table("old_transactions")
    for statements in (NO_CHANGE, BALANCE, SUMS):
        _execute(statements)
    op.drop_constraint(op.f(OLD_BOUND), "payments", type_="check")
    op.create_check_constraint(
        op.f(BOUND),
        "payments",
        "0 <= refunded_minor and refunded_minor <= captured_minor and 0 <= voided_minor"
        " and captured_minor + voided_minor <= authorized_minor and authorized_minor <= amount_minor",
    )


def downgrade() -> None:
    op.drop_constraint(op.f(BOUND), "payments", type_="check")
    op.create_check_constraint(op.f(OLD_BOUND), "payments", "0 <= refunded_minor and refunded_minor <= amount_minor")
    op.execute("drop trigger sums_of_status on payments")
    op.create_table(
        "old_transactions",
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("provider_id", sa.String(200), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_transactions_payment_id")),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_transactions")),
        sa.UniqueConstraint("payment_id", "kind", name=op.f("uq_transactions_payment_id_kind")),
    )
    # The version before knows one movement of a kind.
    op.execute("""
        insert into old_transactions (payment_id, kind, amount_minor, currency, provider_id, at)
        select payment_id, kind, sum(amount_minor), min(currency), min(provider_id), min(at) from transactions
        group by payment_id, kind order by min(transaction_id)
    """)
    op.execute("drop view transactions")
    op.drop_table("ledger_entries")
    op.drop_table("movements")
    op.rename_table("old_transactions", "transactions")
    op.execute("alter sequence old_transactions_transaction_id_seq rename to transactions_transaction_id_seq")
    for function in ("carry_transaction", "sums_of_status", "movement_balances", "ledger_is_append_only"):
        op.execute(f"drop function {function}")
    for column in ("undo_asked_at", "held_until", "voided_minor", "captured_minor", "authorized_minor"):
        op.drop_column("payments", column)


def _execute(statements: str) -> None:
    """One by one: asyncpg prepares each, and prepares no two at once."""
    for statement in statements.split(";\ncreate "):
        op.execute(statement if statement.lstrip().startswith("create") else f"create {statement}")
