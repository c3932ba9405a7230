"""Quotes: kept for as long as they may be ordered, and deleted after."""

from datetime import timedelta
from uuid import UUID

from chassis.clock import utc_now
from chassis.database import Database
from chassis.statements import sql
from chassis.store import UnitOfWork, transaction
from services.order.model.pricing import Priced
from services.order.model.quotes import Quote

PURGE_BATCH = 1000
_PURGE_QUOTES = sql(f"""
    delete from quotes where quote_id in
      (select quote_id from quotes where valid_until <= :now limit {PURGE_BATCH} for update skip locked) returning quote_id
""")  # noqa: S608 - of a constant


async def find_quote(database: Database, quote_id: UUID) -> Quote | None:
    """A quote that is kept, valid or not."""
    async with database.reading() as session:
        return await session.get(Quote, quote_id)


@transaction
async def keep_quote(
    work: UnitOfWork, quote_id: UUID, customer_id: UUID, priced_by: str, priced: Priced, valid: timedelta
) -> Quote:
    """Keep a quote. Of two requests at once under one key the later one gets the quote of the earlier."""
    quote, _ = await work.get_or_add(Quote.new(quote_id, customer_id, priced_by, priced, valid))
    return quote


@transaction
async def purge_quotes(work: UnitOfWork) -> bool:
    """Delete quotes that are no longer valid. Returns whether there may be more to do now."""
    return len(await work.rows(_PURGE_QUOTES, now=utc_now())) == PURGE_BATCH
