"""The job that sends what is queued: outside of any transaction, one connection for a batch, each mail by one process."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from jinja2 import TemplateError
from opentelemetry import trace

from chassis.clients import Unavailable
from chassis.database import Database, is_passing
from chassis.jobs import Job
from chassis.logs import logger
from chassis.telemetry import span_after
from contracts.errors import Refusal
from contracts.notifications import NotificationKind
from services.notification import commands, figures, queries, templates
from services.notification.commands import ClaimedMail, Report
from services.notification.model import Outcome
from services.notification.ports import SEND_SECONDS, Directory, Mail, MailDeferred, Mailer, MailRefused, MailServerAway
from services.notification.templates import Text

BATCH = 20
"""After a kill, at most so many mails are sent a second time (with the same Message-ID)."""
LEASE = timedelta(minutes=2)
POLL_SECONDS = 1.0
GATHER_SECONDS = 1.0
"""After being woken: mails that come together share a connection, a question to identity and two commits."""
log = logger(__name__)
tracer = trace.get_tracer(__name__)


class Delivery:
    """One connection to the mail server, and what goes over it."""

    def __init__(self, database: Database, directory: Directory, mailer: Mailer, wake: asyncio.Event, *, attempts: int) -> None:
        self._database, self._directory, self._mailer = database, directory, mailer
        self._wake, self._attempts = wake, attempts
        self._stopping = False

    def job(self) -> Job:
        """Sends for ever. A mail under way is sent and written down when the process stops: cut off, it would be sent twice."""
        return Job(
            "send mails", self._send_batch, every_s=POLL_SECONDS, wake=self._wake, gather_s=GATHER_SECONDS, stop=self._stop
        )

    async def _send_batch(self) -> bool:
        return await self.send_due() == BATCH

    def _stop(self) -> None:
        self._stopping = True

    async def send_due(self) -> int:
        """Send a batch of what is due; how many mails that was.

        Raises MailServerAway or (identity is away) Unavailable, with everything given back."""
        claimed_mails = await commands.claim_due(self._database, limit=BATCH, lease=LEASE)
        if not claimed_mails:
            return 0
        reports: list[Report] = []
        try:
            await self._send_all(claimed_mails, reports)
        finally:
            reports += [Report(claimed, Outcome.UNTRIED) for claimed in claimed_mails[len(reports) :]]
            try:
                await self._record(reports)
            finally:
                await self._mailer.close()
        return len(claimed_mails)

    async def _send_all(self, claimed_mails: Sequence[ClaimedMail], reports: list[Report]) -> None:
        """Send in turn, adding a report of each."""
        texts = await queries.texts(self._database)
        about_orders = [claimed.notification for claimed in claimed_mails if claimed.notification.request_id is None]
        customers = {notification.customer_id for notification in about_orders if notification.customer_id}
        verified = await self._directory.verified(customers) if customers else {}
        # The last mail must be through before the lease ends and another process may send it.
        last_start = asyncio.get_running_loop().time() + LEASE.total_seconds() - 2 * SEND_SECONDS
        for claimed in claimed_mails:
            if self._stopping or asyncio.get_running_loop().time() > last_start:
                break
            mail = claimed.notification
            with span_after(tracer, "send mail", mail.traceparent, mail.created_at):
                report = await self._send(claimed, texts, verified)
            reports.append(report)
            figures.mails_total.labels(claimed.notification.kind, report.outcome).inc()

    async def _send(self, claimed: ClaimedMail, texts: Mapping[NotificationKind, Text], verified: Mapping[UUID, str]) -> Report:
        notification = claimed.notification
        kind, values = notification.kind, notification.values
        try:
            if notification.request_id is not None:
                mail = await self._directory.account_mail(notification.request_id)
                # What kind it turned out to be is for the reader of the mail alone, and not for the delivery log.
                kind, to, values = mail.kind, mail.email, {"link": mail.link}
            elif notification.customer_id and notification.customer_id in verified:
                to, values = verified[notification.customer_id], values | {"order_id": str(notification.order_id)}
            else:
                return Report(claimed, Outcome.SUPPRESSED, "the customer's address is not verified")
            text = templates.render(kind, texts[kind].subject, texts[kind].body, values)
            await self._mailer.send(Mail(str(notification.notification_id), to, text.subject, text.body))
        except MailServerAway:
            raise
        except Refusal:
            return Report(claimed, Outcome.SUPPRESSED, "identity does not want it sent any more")
        except MailRefused as error:
            return Report(claimed, Outcome.REFUSED, str(error))
        except (MailDeferred, TemplateError, Unavailable) as error:
            return Report(claimed, Outcome.DEFERRED, str(error))
        except Exception as error:  # whatever is wrong with this one, it must not hold up the others
            log.error("mail_failed", notification_id=str(notification.notification_id), exc_info=error)
            return Report(claimed, Outcome.DEFERRED, type(error).__name__)
        return Report(claimed, Outcome.SENT)

    async def _record(self, reports: Sequence[Report]) -> None:
        """Write the outcomes down, however long the database is away: what was sent must not be sent again."""
        while True:
            try:
                return await commands.record(self._database, reports, attempts_allowed=self._attempts)
            except Exception as error:
                if self._stopping or not is_passing(error):
                    raise
                log.warning("delivery_waits_for_the_database", error=type(error).__name__)
                await asyncio.sleep(POLL_SECONDS)
