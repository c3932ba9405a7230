"""The jobs that send what is queued, one a channel, so that a stuck provider holds up nobody: outside of any transaction, one
connection for a batch, each message by one process."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from json import dumps
from uuid import UUID

from jinja2 import TemplateError
from opentelemetry import trace

from chassis.clients import Unavailable
from chassis.clock import utc_now
from chassis.database import Database, is_passing
from chassis.jobs import Job
from chassis.logs import logger
from chassis.telemetry import span_after
from contracts.budgets import BREAKER_OPENS_AFTER
from contracts.errors import Refusal
from contracts.notifications import NotificationKind
from services.notification import commands, figures, messages
from services.notification.channels import SEND_SECONDS, Channel, Deferred, Message, ProviderAway, Refused, Sender
from services.notification.commands import ClaimedDelivery, Report
from services.notification.links import Links
from services.notification.messages import Texts
from services.notification.model import Audience, Outcome, Person
from services.notification.ports import Directory
from services.notification.queries.templates import live_texts

BATCH = 20
"""After a kill, at most so many messages are sent a second time (with the same id)."""
LEASE = timedelta(minutes=2)
POLL_SECONDS = 1.0
GATHER_SECONDS = 1.0
"""After being woken: messages that come together share a connection, a question to identity and two commits."""
log = logger(__name__)
tracer = trace.get_tracer(__name__)


class _NotToBeSent(Exception):
    """And why."""


@dataclass
class _Known:
    """What a batch needs to know, asked once for all of it."""

    texts: Texts
    people: Mapping[UUID, Person] = field(default_factory=dict)
    verified: Mapping[UUID, str] = field(default_factory=dict)
    """Mail addresses that are the customers'."""


class DeliveryJob:
    """One connection to a channel's provider, and what goes over it."""

    def __init__(
        self, database: Database, directory: Directory, sender: Sender, links: Links, wake: asyncio.Event, *, attempts: int
    ) -> None:
        self._database, self._directory, self._sender, self._links = database, directory, sender, links
        self._channel, self._wake, self._attempts = sender.channel, wake, attempts
        self._stopping = False
        self._deferred_in_a_row = 0
        """By the provider: then the fault is with none of the messages, and the rest of a batch waits for it."""

    def job(self) -> Job:
        """Sends for ever. What is under way is sent and written down when the process stops: cut off, it would be sent twice."""
        return Job(
            f"send by {self._channel}",
            self._send_batch,
            every_s=POLL_SECONDS,
            wake=self._wake,
            gather_s=GATHER_SECONDS,
            stop=self._stop,
        )

    async def _send_batch(self) -> bool:
        return await self.send_due() == BATCH

    def _stop(self) -> None:
        self._stopping = True

    async def send_due(self) -> int:
        """Send a batch of what is due; how many messages that was.

        Raises ProviderAway or (identity is away) Unavailable, with everything given back that was not tried."""
        claimed = await commands.claim_due(self._database, self._channel, limit=BATCH, lease=LEASE)
        if not claimed:
            return 0
        reports: list[Report] = []
        try:
            await self._send_all(claimed, reports)
        finally:
            reports += [Report(one, Outcome.UNTRIED) for one in claimed[len(reports) :]]
            try:
                await self._record(reports)
            finally:
                await self._sender.close()
        return len(claimed)

    async def _send_all(self, claimed: Sequence[ClaimedDelivery], reports: list[Report]) -> None:
        """Send in turn, adding a report of each."""
        known = await self._look_up(claimed)
        self._deferred_in_a_row = 0
        # The last message must be through before the lease ends and another process may send it.
        last_start = asyncio.get_running_loop().time() + LEASE.total_seconds() - 2 * SEND_SECONDS
        for one in claimed:
            if self._stopping or asyncio.get_running_loop().time() > last_start:
                break
            about = one.notification
            with span_after(tracer, f"send by {self._channel}", about.traceparent, about.created_at):
                report = await self._try(one, known)
            reports.append(report)
            figures.messages_total.labels(self._channel, about.kind, report.outcome).inc()
            if self._deferred_in_a_row == BREAKER_OPENS_AFTER:
                raise ProviderAway(f"{self._channel}: {BREAKER_OPENS_AFTER} messages in a row were not taken: {report.reason}")

    async def _look_up(self, claimed: Sequence[ClaimedDelivery]) -> _Known:
        known = _Known(await live_texts(self._database, {one.notification.kind for one in claimed}))
        about = [one.notification for one in claimed if one.notification.request_id is None]
        customers = {one.customer_id for one in about if one.customer_id}
        if customers:
            known.people = await commands.people_of(self._database, customers)
            if self._channel is Channel.EMAIL:
                known.verified = await self._directory.verified(customers)
        return known

    async def _try(self, one: ClaimedDelivery, known: _Known) -> Report:
        about = one.notification
        try:
            person = known.people.get(about.customer_id) if about.customer_id else None
            if person and (until := person.held_until(about.kind, self._channel, utc_now())):
                return Report(one, Outcome.HELD, "the person has quiet hours", held_until=until)
            receipt = await self._sender.send(await self._message(one, person, known))
        except ProviderAway:
            raise
        except _NotToBeSent as error:
            return Report(one, Outcome.SUPPRESSED, str(error))
        except Refusal:
            return Report(one, Outcome.SUPPRESSED, "it is not wanted any more")
        except Refused as error:
            self._deferred_in_a_row = 0
            return Report(one, Outcome.REFUSED, str(error), is_gone=error.gone)
        except Deferred as error:
            self._deferred_in_a_row += 1
            pause = timedelta(seconds=error.retry_after_s)
            return Report(one, Outcome.DEFERRED, str(error), pause=pause, not_taken=error.not_taken)
        except (TemplateError, Unavailable) as error:
            return Report(one, Outcome.DEFERRED, str(error))
        except Exception as error:  # whatever is wrong with this one, it must not hold up the others
            log.error("message_failed", notification_id=str(about.notification_id), channel=self._channel, exc_info=error)
            return Report(one, Outcome.DEFERRED, type(error).__name__)
        self._deferred_in_a_row = 0
        return Report(one, Outcome.SENT, provider_id=receipt.provider_id)

    async def _message(self, one: ClaimedDelivery, person: Person | None, known: _Known) -> Message:
        about = one.notification
        kind, values, person_id = about.kind, about.values, about.customer_id
        if about.request_id is not None:
            mail = await self._directory.account_mail(about.request_id)
            # What kind it turned out to be is for the reader of the mail alone, and not for the delivery log.
            kind, to, values = mail.kind, mail.email, {"link": mail.link}
            if (kind, Channel.EMAIL, about.language) not in known.texts:
                known.texts = {**known.texts, **await live_texts(self._database, {kind})}
        elif kind is NotificationKind.PHONE_CODE:
            to, code = await commands.new_phone_code(self._database, _required(person_id), self._links.secret)
            values = {"code": code}
        else:
            to = self._address(one, person, known)
            if about.order_id is not None:
                values = values | {"order_id": str(about.order_id)}
        text = messages.written(known.texts, kind, self._channel, about.language, values)
        return messages.message(
            one.delivery.delivery_id,
            self._channel,
            to,
            text,
            kind=kind,
            language=about.language,
            person_id=person_id,
            links=self._links,
            values=values,
        )

    def _address(self, one: ClaimedDelivery, person: Person | None, known: _Known) -> str:
        """Where it goes. Raises _NotToBeSent."""
        about, target = one.notification, one.delivery.target
        if about.audience is not Audience.CUSTOMER:
            return target
        if person and (why := person.suppressed.get(self._channel)):
            raise _NotToBeSent(f"nothing is sent there until it is proven again: {why}")
        if self._channel is Channel.EMAIL:
            if about.customer_id and about.customer_id in known.verified:
                return known.verified[about.customer_id]
            raise _NotToBeSent("the customer's address is not verified")
        if self._channel is Channel.SMS and person and person.phone:
            return person.phone
        if self._channel is Channel.PUSH and person and (subscription := person.browser(target)):
            return dumps(subscription)
        raise _NotToBeSent("the person is not reached by this channel any more")

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


def _required(person_id: UUID | None) -> UUID:
    if person_id is None:
        raise LookupError("it is for nobody")
    return person_id
