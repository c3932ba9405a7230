"""The job that reads the mailbox that mails come back to."""

from chassis.clock import utc_now
from chassis.database import Database
from chassis.logs import logger
from services.notification import commands, figures
from services.notification.ports import Handled, Mailbox
from services.notification.protocols import dsn

log = logger(__name__)


async def read_mailbox(database: Database, mailbox: Mailbox) -> int:
    """Take in the reports that are there; how many mails were looked at."""

    async def handle(raw: bytes) -> Handled:
        try:
            told = dsn.news_in(raw, utc_now())
        except dsn.UnreadableReport as error:
            log.warning("report_not_read", error=str(error))
            return Handled.LEFT
        for news in told:
            is_known = await commands.apply_delivery_news(database, news)
            figures.count_news(news.channel, news.state, is_known=is_known)
        return Handled.TAKEN if told else Handled.LEFT

    return await mailbox.read(handle)
