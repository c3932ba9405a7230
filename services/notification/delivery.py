"""The job that sends what is queued: outside of any transaction, one connection for a batch, each mail by one process."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from jinja2 import TemplateError
from prometheus_client import Counter

from chassis.database import Database, is_connection_fault
from chassis.logs import logger
from services.notification import commands, templates
from services.notification.adapters import SEND_SECONDS
from services.notification.commands import Letter, Report
from services.notification.model import Outcome
from services.notification.ports import Mail, MailDeferred, Mailer, MailRefused, MailServerAway

BATCH = 20
"""After a kill, at most so many mails are sent a second time (with the same Message-ID)."""
LEASE = timedelta(minutes=2)
POLL_SECONDS = 1.0
GATHER_SECONDS = 0.25
"""After being woken: mails that come together share a connection and a commit."""
LONGEST_PAUSE = 30.0
log = logger(__name__)
mails_total = Counter("mails_total", "Tries to send a mail, by what became of them.", ["kind", "outcome"])


class Delivery:
    """Runs until cancelled; survives the database and the mail server going away."""

    def __init__(self, database: Database, mailer: Mailer, wake: asyncio.Event, *, attempts: int) -> None:
        self._database, self._mailer, self._wake, self._attempts = database, mailer, wake, attempts
        self._stopping = False

    async def run(self) -> None:
        """Send for ever."""
        pause = POLL_SECONDS
        while True:
            self._wake.clear()
            try:
                while await self._undisturbed(self.send_due()) == BATCH:
                    pass
                pause = POLL_SECONDS
            except MailServerAway as error:
                pause = min(pause * 2, LONGEST_PAUSE)
                log.warning("mail_server_away", error=str(error), retry_in_s=pause)
                await asyncio.sleep(pause)
                continue
            except Exception as error:  # a bug must not end sending for good: it is logged and tried again
                if not is_connection_fault(error):
                    log.error("delivery_failed", exc_info=error)
                await asyncio.sleep(POLL_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)

    async def _undisturbed(self, sending: Coroutine[Any, Any, int]) -> int:
        """When we are cancelled, the mail under way is still sent and written down: cut off, it would be sent twice."""
        task = asyncio.ensure_future(sending)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stopping = True
            await asyncio.wait([task])
            raise

    async def send_due(self) -> int:
        """Send a batch of what is due; how many mails that was. Raises MailServerAway, with everything given back."""
        letters = await commands.claim_due(self._database, limit=BATCH, lease=LEASE)
        if not letters:
            return 0
        reports: list[Report] = []
        try:
            await self._send_all(letters, reports)
        finally:
            reports += [Report(letter, Outcome.UNTRIED) for letter in letters[len(reports) :]]
            try:
                await self._record(reports)
            finally:
                await self._mailer.close()
        return len(letters)

    async def _send_all(self, letters: Sequence[Letter], reports: list[Report]) -> None:
        """Send in turn, adding a report of each."""
        # The last mail must be through before the lease ends and another process may send it.
        last_start = asyncio.get_running_loop().time() + LEASE.total_seconds() - 2 * SEND_SECONDS
        for letter in letters:
            if self._stopping or asyncio.get_running_loop().time() > last_start:
                break
            report = await self._send(letter)
            reports.append(report)
            mails_total.labels(letter.notification.kind, report.outcome).inc()

    async def _send(self, letter: Letter) -> Report:
        notification, contact, template = letter.notification, letter.contact, letter.template
        if contact is None:
            return Report(letter, Outcome.DEFERRED, "nobody has told yet how this customer is reached")
        values = notification.values | {"name": contact.name, "order_id": str(notification.order_id)}
        try:
            text = templates.render(notification.kind, template.subject, template.body, values)
            await self._mailer.send(Mail(str(notification.notification_id), contact.email, text.subject, text.body))
        except MailServerAway:
            raise
        except MailRefused as error:
            return Report(letter, Outcome.REFUSED, str(error))
        except (MailDeferred, TemplateError) as error:
            return Report(letter, Outcome.DEFERRED, str(error))
        except Exception as error:  # whatever is wrong with this one, it must not hold up the others
            log.error("mail_failed", notification_id=str(notification.notification_id), exc_info=error)
            return Report(letter, Outcome.DEFERRED, type(error).__name__)
        return Report(letter, Outcome.SENT)

    async def _record(self, reports: Sequence[Report]) -> None:
        """Write the outcomes down, however long the database is away: what was sent must not be sent again."""
        while True:
            try:
                return await commands.record(self._database, reports, attempts_allowed=self._attempts)
            except Exception as error:
                if self._stopping or not is_connection_fault(error):
                    raise
                log.warning("delivery_waits_for_the_database", error=type(error).__name__)
                await asyncio.sleep(POLL_SECONDS)
