"""What is asked of the services' databases. Each query returns the fields of a row of `audit.books`, in their sequence."""

ORDERS = """
select o.order_id, o.customer_id, o.status, o.currency, o.total_minor, o.refunded_minor - o.returned_minor, o.code, o.trouble,
       o.outcome->>'status', o.outcome->>'code', o.placement is not null,
       array(select entry->>'status' from jsonb_array_elements(o.history) with ordinality as passed (entry, nth) order by nth),
       o.placed_at, o.confirmed_at, o.updated_at, line.total, line.lines,
       o.ship_to->>'name' <> '(forgotten)' or o.ship_to->>'line1' <> '(forgotten)' or o.ship_to->>'line2' is not null
       or o.ship_to->>'postal_code' <> '(forgotten)' or o.ship_to->>'city' <> '(forgotten)'
       or coalesce(o.fingerprint, o.detail, o.review_reason, o.outcome->>'detail') is not null
       or o.placement is not null or o.cancel_wish is not null
       or exists (
           select from jsonb_array_elements(o.history) as said where coalesce(said->>'detail', said->>'for_staff') is not null
       )
       or exists (
           select from amendments a where a.order_id = o.order_id
           and (a.terms->'ship_to'->>'name' <> '(forgotten)' or a.fingerprint is not null or a.detail is not null)
       ),
       (select array_agg((o.charges->part->>'amount')::numeric order by nth)
        from unnest(array['items', 'discount', 'shipping', 'tax', 'total']) with ordinality as parts (part, nth)
        where o.charges is not null),
       array[line.items, line.discount, line.shipping, line.tax, line.paid], o.parcels::text,
       case when o.parcels is not null then o.lines::text end, o.capture_at is not distinct from 'dispatch',
       o.declined is not null,
       (select coalesce(sum(a.closed_minor), 0)::bigint from amendments a where a.order_id = o.order_id)
from orders o, lateral (
    select sum((l->'unit_price'->>'amount')::numeric * (l->>'quantity')::int) as total,
           sum((l->'amounts'->>'items')::bigint) as items, sum((l->'amounts'->>'discount')::bigint) as discount,
           sum((l->'amounts'->>'shipping')::bigint) as shipping, sum((l->'amounts'->>'tax')::bigint) as tax,
           sum((l->'amounts'->>'items')::bigint - (l->'amounts'->>'discount')::bigint + (l->'amounts'->>'shipping')::bigint
               + case when (l->'amounts'->>'tax_included')::boolean then 0 else (l->'amounts'->>'tax')::bigint end
               - coalesce((l->'amounts'->>'credit')::bigint, 0)) as paid,
           string_agg((l->>'product_id') || ' x ' || (l->>'quantity'), ', ' order by (l->>'product_id') collate "C") as lines
    from jsonb_array_elements(o.lines) as l
) as line
"""
RETURNS = """
select r.order_id, r.number, r.kind, r.status, r.tracking_number, units.lines, r.updated_at, r.currency,
       (r.settlement->'value'->>'amount')::numeric, r.refunded_minor, (o.replaces->>'order_id')::uuid
from returns r join orders o using (order_id) left join lateral (
    select string_agg(product_id || ': ' || good || ' + ' || damaged, ', ' order by product_id collate "C") as lines
    from (select u->'line'->>'product_id' as product_id,
                 coalesce(sum((u->'line'->>'quantity')::int) filter (where u->>'condition' = 'good'), 0) as good,
                 coalesce(sum((u->'line'->>'quantity')::int) filter (where u->>'condition' = 'damaged'), 0) as damaged
          from jsonb_array_elements(r.came) as u group by 1) as unit
) as units on true
"""
KEYS_TO_DESTROY = """
select customer_id, forget_requested_at, wrapped is not null, forgotten_at is not null from customer_keys
where forget_requested_at is not null
"""
FORGOTTEN = """
select user_id, forgotten_at, nullif(concat_ws(', ',
       case when email <> '' then 'e-mail' end, case when name <> '' then 'name' end,
       case when phone is not null then 'phone' end,
       case when addresses <> '[]' then 'addresses' end, case when password_hash <> '' then 'password' end,
       case when exists (select from sessions s where s.user_id = u.user_id and (s.ended_at is null or s.device <> ''))
            then 'sessions' end,
       case when exists (select from devices d where d.user_id = u.user_id) then 'devices' end,
       case when exists (select from account_links l where l.user_id = u.user_id) then 'links' end,
       case when exists (select from security_log r where r.user_id = u.user_id and coalesce(r.account, r.address) is not null)
            then 'addresses in the security log' end), '')
from users u where forgotten_at is not null
"""
LINES = """
select o.order_id, l->>'product_id', (l->'unit_price'->>'amount')::numeric, l->'unit_price'->>'currency', (
           select min(a.asked_at) from amendments a
           where a.order_id = o.order_id and a.status = 'APPLIED' and (l->>'line_id')::int >= a.first_new_line_id
           and exists (select from jsonb_array_elements(a.terms->'lines') as new where new->>'line_id' = l->>'line_id')
       )
from orders o, jsonb_array_elements(o.lines) as l
"""
DISCOUNT_USES = """
select code, coalesce(times_used, 0), coalesce(held, 0)
from discount_uses full join (
    select code, count(*) as held from redemptions where given_back_at is null group by code
) as counted using (code)
"""
REDEMPTIONS = """
select order_id, code, r.amount_minor, r.currency, r.order_id is not null and r.given_back_at is null, d.amount, d.currency
from redemptions r full join (
    select order_id, taken->>'code' as code, (taken->'amount'->>'amount')::numeric as amount,
           taken->'amount'->>'currency' as currency
    from orders, jsonb_array_elements(charges->'discounts') as taken
) as d using (order_id, code)
"""
PRICES = "select product_id, amount_minor, currency, valid_from, valid_to from price_history"
PAYMENTS = """
with moved as (
    select m.payment_id,
           sum(m.amount_minor) filter (where counts and (m.kind = 'authorize' or (m.kind = 'capture' and m.key = 'charge')))
               as authorized,
           sum(m.amount_minor) filter (where counts and m.kind = 'capture') as captured,
           sum(m.amount_minor) filter (where counts and m.kind = 'refund') as refunded,
           sum(m.amount_minor) filter (where counts and m.kind = 'void') as voided,
           count(*) filter (where m.currency <> p.currency) as other_currency,
           count(*) filter (where m.state = 'PENDING' and not counts) as unanswered,
           count(*) filter (where m.purpose is not null) as said_why
    from movements m join payments p using (payment_id),
    lateral (select m.state = 'SUCCEEDED' or (m.state = 'PENDING' and m.accepted_at is not null)) as known (counts)
    group by m.payment_id
), posted as (
    select m.payment_id, e.movement_id,
           coalesce(sum(e.amount_minor) filter (where e.account = 'provider'), 0) as at_provider,
           coalesce(sum(e.amount_minor) filter (where e.account = 'held'), 0) as held,
           sum(e.amount_minor) <> 0 as is_unbalanced
    from ledger_entries e join movements m using (movement_id) group by m.payment_id, e.movement_id
), ledger as (
    select payment_id, sum(at_provider) as at_provider, sum(held) as held, count(*) filter (where is_unbalanced) as unbalanced
    from posted group by payment_id
)
select p.order_id, p.attempt, p.provider_reference, p.status, p.currency, p.amount_minor, p.refunded_minor, p.provider_id,
       p.customer_id is null, coalesce(m.authorized, 0)::bigint, coalesce(m.captured, 0)::bigint,
       coalesce(m.refunded, 0)::bigint, coalesce(m.voided, 0)::bigint, coalesce(m.other_currency, 0),
       coalesce(p.card_fingerprint, p.address_fingerprint) is not null or coalesce(m.said_why, 0) > 0
           or exists (select from bank_entries e
                      where e.reference = p.provider_id and coalesce(e.name, e.iban, e.words) is not null),
       p.authorized_minor, p.captured_minor, p.voided_minor,
       coalesce(l.at_provider, 0)::bigint, coalesce(l.held, 0)::bigint, coalesce(l.unbalanced, 0), coalesce(m.unanswered, 0)
from payments p left join moved m using (payment_id) left join ledger l using (payment_id)
"""
REFUNDS = """
select p.provider_reference, m.provider_id, m.state, m.amount_minor, m.currency,
       coalesce(m.settled_at, m.accepted_at, m.asked_at), split_part(m.key, ':', 1), m.failure
from movements m join payments p using (payment_id) where m.kind = 'refund'
"""
TRANSFERS = """
select t.reference, t.received_minor, t.refunded_minor, t.captured_at is not null,
       coalesce((select sum(amount_minor) from debts where kind = 'overpaid' and subject = t.reference || ' undone'), 0)::bigint,
       t.reversed_at is not null
from transfers t
"""
BANK_ENTRIES = """
select e.entry_id, e.amount_minor, e.currency, e.reference, e.end_to_end_id, e.taken_minor,
       coalesce((select sum(d.amount_minor) from debts d
                 where d.kind in ('overpaid', 'unmatched') and d.subject = e.entry_id and d.currency = e.currency), 0)::bigint
from bank_entries e
"""
BANK_ORDERS = "select end_to_end_id, reference, state, amount_minor, currency, settled_at from bank_orders"
RETURN_REFUNDS = """
select p.order_id, split_part(tried.key, ':', 1), sum(tried.told)::bigint, sum(tried.moved)::bigint
from payments p join (
    select payment_id, split_part(key, ':', 1) as key,
           coalesce(sum(amount_minor) filter (where state = 'SUCCEEDED' or (state = 'PENDING' and accepted_at is not null)), 0)
               as moved,
           coalesce(max(amount_minor) filter (where movement_id in (select movement_id from ledger_entries)), 0) as told
    from movements where kind = 'refund' and key like 'return-%' group by 1, 2
) as tried using (payment_id)
group by 1, 2
"""
RETURN_FACTS = "select order_id, number, currency, refunded_minor from returns"
DISPUTES = """
select p.provider_reference, d.provider_id, d.state, d.amount_minor, d.currency, coalesce(d.closed_at, d.opened_at)
from disputes d join payments p using (payment_id)
"""
DEBTS = "select kind, reference, coalesce(key, subject) from debts"
STOCK = """
with movement as (
    select warehouse_id, product_id, sum(change) as moved,
           coalesce(sum(change) filter (where kind = 'RECEIPT'), 0) as received,
           coalesce(sum(change) filter (where kind in ('ADJUSTMENT', 'COUNT')), 0) as corrected,
           coalesce(sum(change) filter (where kind = 'TRANSFER'), 0) as transferred,
           coalesce(-sum(change) filter (where kind = 'WRITE_OFF'), 0) as written_off
    from stock_movements group by warehouse_id, product_id
), reserved as (
    select r.warehouse_id, l->>'product_id' as product_id,
           coalesce(sum((l->>'quantity')::bigint) filter (where r.status = 'RESERVED'), 0) as promised,
           coalesce(sum((l->>'quantity')::bigint) filter (where r.status in ('SHIPPED', 'RESTOCKED')), 0) as shipped,
           coalesce(sum((l->>'quantity')::bigint) filter (where r.status = 'RESTOCKED'), 0) as restocked
    from reservations r, jsonb_array_elements(r.lines) as l
    where r.status in ('RESERVED', 'SHIPPED', 'RESTOCKED') group by 1, 2
), back as (
    select r.warehouse_id, l->>'product_id' as product_id,
           sum((l->>'good')::bigint) as good, sum((l->>'damaged')::bigint) as damaged
    from received_returns r, jsonb_array_elements(r.lines) as l group by 1, 2
    having sum((l->>'good')::bigint + (l->>'damaged')::bigint) > 0
)
select warehouse_id, product_id, s.on_hand, s.reserved, coalesce(m.moved, 0)::bigint, coalesce(m.received, 0)::bigint,
       coalesce(m.corrected, 0)::bigint, coalesce(m.transferred, 0)::bigint,
       coalesce(r.promised, 0)::bigint, coalesce(r.shipped, 0)::bigint, coalesce(r.restocked, 0)::bigint,
       coalesce(b.good, 0)::bigint, coalesce(b.damaged, 0)::bigint, coalesce(m.written_off, 0)::bigint
from stock s full join movement m using (warehouse_id, product_id) full join reserved r using (warehouse_id, product_id)
     full join back b using (warehouse_id, product_id)
"""
RESERVATIONS = """
select r.order_id, r.parcel, r.status, r.created_at, line.lines, r.plan
from reservations r, lateral (
    select string_agg((l->>'product_id') || ' x ' || (l->>'quantity'), ', ' order by (l->>'product_id') collate "C") as lines
    from jsonb_array_elements(r.lines) as l
) as line
"""
RECEIVED = """
select r.order_id, r.number, units.lines, r.received_at
from received_returns r left join lateral (
    select string_agg(product_id || ': ' || good || ' + ' || damaged, ', ' order by product_id collate "C") as lines
    from (select l->>'product_id' as product_id, sum((l->>'good')::int) as good, sum((l->>'damaged')::int) as damaged
          from jsonb_array_elements(r.lines) as l group by 1) as unit
    where good + damaged > 0
) as units on true
"""
BACK = """
with back as (
    select r.order_id, l->>'product_id' as product_id, sum((l->>'good')::bigint + (l->>'damaged')::bigint) as units
    from received_returns r, jsonb_array_elements(r.lines) as l group by 1, 2
)
select b.order_id, b.product_id, coalesce((
    select sum((l->>'quantity')::bigint) from reservations r, jsonb_array_elements(r.lines) as l
    where r.order_id = b.order_id and r.status = 'SHIPPED' and l->>'product_id' = b.product_id
), 0)::bigint, b.units::bigint
from back b
"""
WAITING = """
select r.order_id, r.parcel, there.warehouse_id, greatest(there.arrived_at, r.created_at)
from reservations r left join lateral (
    select w.warehouse_id, max(m.at) as arrived_at
    from warehouses w
    left join stock_movements m on m.warehouse_id = w.warehouse_id
        and m.product_id in (select l->>'product_id' from jsonb_array_elements(r.lines) as l)
    where (r.warehouse_id is null or r.warehouse_id = w.warehouse_id) and not exists (
        select from jsonb_array_elements(r.lines) as l
        left join stock s on s.warehouse_id = w.warehouse_id and s.product_id = l->>'product_id'
        where coalesce(s.on_hand - s.reserved, 0) < (l->>'quantity')::int
    )
    group by w.warehouse_id order by w.warehouse_id limit 1
) as there on true
where r.status = 'AWAITED'
"""
SHIPMENTS = """
select order_id, parcel, s.status, coalesce(p.refund, 'none'), s.tracking_number, customer_id is null, s.created_at,
       coalesce(ship_to->>'name' <> '(forgotten)' or ship_to->>'line1' <> '(forgotten)' or ship_to->>'line2' is not null
                or ship_to->>'postal_code' <> '(forgotten)' or ship_to->>'city' <> '(forgotten)', false)
       or refusal_detail is not null, p.carrier, p.refund_since
from shipments s left join lateral (
    select (array_agg(refund order by case refund when 'due' then 0 when 'submitted' then 1 when 'rejected' then 2 else 3 end))[1]
               as refund,
           min(carrier) as carrier, min(refund_since) as refund_since
    from packages where packages.shipment_id = s.shipment_id
) p on true
where direction = 'outbound'
"""
LABELS = """
select order_id, parcel, s.status, coalesce(p.refund, 'none'), s.tracking_number, customer_id is null, s.created_at,
       coalesce(ship_from->>'name' <> '(forgotten)' or ship_from->>'line1' <> '(forgotten)' or ship_from->>'line2' is not null
                or ship_from->>'postal_code' <> '(forgotten)' or ship_from->>'city' <> '(forgotten)', false)
       or refusal_detail is not null, p.carrier, p.refund_since
from shipments s left join lateral (
    select (array_agg(refund order by case refund when 'due' then 0 when 'submitted' then 1 when 'rejected' then 2 else 3 end))[1]
               as refund,
           min(carrier) as carrier, min(refund_since) as refund_since
    from packages where packages.shipment_id = s.shipment_id
) p on true
where direction = 'inbound'
"""
NOTIFICATIONS = """
select notification_id, order_id, kind,
       coalesce(
         (select status from deliveries where deliveries.notification_id = notifications.notification_id
          order by array_position(
            array['DELIVERED', 'SENT', 'PENDING', 'WAITING', 'BOUNCED', 'FAILED', 'SUPPRESSED'], status::text)
          limit 1),
         'DELIVERED'),
       created_at, is_planned
from notifications
"""
DELIVERIES = """
select delivery_id, notification_id, channel, status, attempts,
       (select count(*) from attempts where attempts.delivery_id = deliveries.delivery_id), sent_at,
       provider_id
from deliveries
"""
EVENTS = """
select event_id, topic, envelope->>'type', key, seq, created_at, published_at, "partition", "offset" from outbox
where published_at is null or envelope->>'type' = any($1)
"""
DEAD_LETTERS = """
select letter_id, state = 'REPLAY', type, subject, topic, error, coalesce(failed_at, created_at) from dead_letters
where state in ('OPEN', 'REPLAY')
"""
FACTS = """
select order_id, currency,
       total_minor + coalesce((select sum(gain) from jsonb_to_recordset(amendments) as each (gain bigint)), 0)::bigint,
       refunded_minor, placed_at, confirmed_at is not null, completed_at is not null,
       cancelled_at is not null, refunded_at is not null, cancel_code
from orders
"""
SUMS = """
with fact as (
    select currency, count(placed_at) as placed, count(confirmed_at) as confirmed, count(completed_at) as completed,
           count(cancelled_at) as cancelled, coalesce(sum(total_minor) filter (where confirmed_at is not null), 0)
           + coalesce(sum((select sum(gain) from jsonb_to_recordset(amendments) as each (gain bigint))), 0) as gross,
           count(refunded_at) as undelivered,
           coalesce(sum(refunded_minor) filter (
               where confirmed_at is not null and coalesce(cancelled_at, refunded_at, completed_at) is not null
           ), 0) as refunds
    from orders group by currency
), back as (
    select currency, count(*) as returned, sum(refunded_minor) as refunds from returns group by currency
), sold as (
    select o.currency, sum(l.quantity - gone.units) as quantity, sum(l.revenue - gone.revenue) as revenue,
           sum(gone.returned) as returned
    from orders o left join lateral (
        select number, lines from jsonb_to_recordset(o.amendments) as each (number int, lines jsonb) order by number desc limit 1
    ) as newest on true, lateral (
        select coalesce((line->>'line_id')::int, place) as line_id, (line->>'quantity')::int as quantity,
               (line->>'revenue_minor')::bigint as revenue
        from jsonb_array_elements(coalesce(newest.lines, o.lines)) with ordinality as each (line, place)
    ) as l, lateral (
        select coalesce(sum(units), 0) as units, coalesce(sum(units) filter (where is_returned), 0) as returned,
               coalesce(sum(l.revenue * (start + units) / l.quantity - l.revenue * start / l.quantity), 0) as revenue
        from jsonb_to_recordset(o.less) as u (line_id int, start int, units int, is_returned bool, amended int)
        where u.line_id = l.line_id and (is_returned or coalesce(u.amended, 0) = coalesce(newest.number, 0))
    ) as gone
    where o.confirmed_at is not null and o.cancelled_at is null and o.refunded_at is null group by o.currency
), day as (
    select currency, sum(placed) as placed, sum(confirmed) as confirmed, sum(completed) as completed,
           sum(cancelled) as cancelled, sum(undelivered) as undelivered, sum(gross_minor) as gross,
           sum(refunds_minor) as refunds, sum(returned) as returned, sum(returned_minor) as back
    from sales_by_day group by currency
), customer as (
    select currency, sum(orders) as placed, sum(revenue_minor) as gross, sum(refunds_minor) as refunds
    from customers group by currency
), product as (
    select currency, sum(quantity) as quantity, sum(revenue_minor) as revenue, sum(returned) as returned
    from products_by_day group by currency
)
select v.kept_in, v.what, currency, coalesce(v.kept, 0)::bigint, coalesce(v.of_facts, 0)::bigint
from fact full join back using (currency) full join sold using (currency) full join day using (currency)
     full join customer using (currency) full join product using (currency),
lateral (values
    ('sales_by_day', 'orders placed', day.placed, fact.placed),
    ('sales_by_day', 'orders confirmed', day.confirmed, fact.confirmed),
    ('sales_by_day', 'orders completed', day.completed, fact.completed),
    ('sales_by_day', 'orders cancelled', day.cancelled, fact.cancelled),
    ('sales_by_day', 'orders undelivered', day.undelivered, fact.undelivered),
    ('sales_by_day', 'revenue (minor units)', day.gross, fact.gross),
    ('sales_by_day', 'refunds (minor units)', day.refunds, coalesce(fact.refunds, 0) + coalesce(back.refunds, 0)),
    ('sales_by_day', 'returns completed', day.returned, back.returned),
    ('sales_by_day', 'refunds by returns (minor units)', day.back, back.refunds),
    ('customers', 'orders placed', customer.placed, fact.placed),
    ('customers', 'revenue (minor units)', customer.gross, fact.gross),
    ('customers', 'refunds (minor units)', customer.refunds, coalesce(fact.refunds, 0) + coalesce(back.refunds, 0)),
    ('products_by_day', 'units sold', product.quantity, sold.quantity),
    ('products_by_day', 'revenue (minor units)', product.revenue, sold.revenue),
    ('products_by_day', 'units returned', product.returned, sold.returned)
) as v (kept_in, what, kept, of_facts)
"""
KEYS = "select customer_id, wrapped, master_key_id from customer_keys where customer_id = any($1)"
"""No books, but what it takes to read the results of sagas."""
