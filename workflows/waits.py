"""What each part of an order waits for, until when, what happens then, and who may bring it on: pure."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial

from contracts.orders import FINAL_STATUSES, Actor, CardDue, OrderState, OrderStatus, Wait
from contracts.parcels import CHOICES, ParcelChoice, ParcelStatus, Trouble
from workflows.parcels import Parcel

IN_TROUBLE = {
    Trouble.NOT_PICKED_UP: "it was not handed over to the carrier",
    Trouble.SILENT: "nothing was heard of it for long",
    Trouble.LOST: "the carrier has lost it",
    Trouble.RETURNED: "it came back",
}
CARRIED_OUT = {
    ParcelChoice.WAIT: "it is waited for again",
    ParcelChoice.RESEND: "another parcel is sent",
    ParcelChoice.REFUND: "its price goes back",
    ParcelChoice.REFUND_AND_RESTOCK: "its price goes back, and the goods on the shelf",
}


def waits_of(
    state: OrderState,
    since: datetime,
    until: datetime | None,
    parcels: Iterable[Parcel],
    due: Callable[[Parcel], datetime],
    cards_due: Iterable[CardDue] = (),
) -> tuple[Wait, ...]:
    """Everything that an order waits for; nothing, once it is over. `since`: when the last thing happened. `until`: when nobody
    may decide about all of it any more. `due`: when somebody has to look at a parcel. `cards_due`: for what
    another card is waited for since it was confirmed."""
    if state.status in FINAL_STATUSES:
        return ()
    order = _wait_of_order(state.status, state.waiting_for, since, until)
    alone = [] if order else filter(None, (_wait_of_parcel(parcel, due, since) for parcel in parcels))
    cards = [] if order else map(partial(_wait_for_card, since), cards_due)
    return (*filter(None, [order]), *_waits_of_undos(state.stuck_undos, since), *cards, *alone)


def _wait_for_card(since: datetime, due: CardDue) -> Wait:
    """For what could not be held, or taken."""
    has_left = due.parcel is not None
    about = f"parcel {due.parcel}, which has left" if has_left else "what has not left yet"
    return Wait(
        part="payment",
        waiting_for=f"another card for {about}, since the last one was declined",
        since=since,
        until=due.until,
        then="it stays owed, and the order goes on" if has_left else "what has not left is called off",
        who=(Actor.CUSTOMER,),
        updates=("pay",) if has_left else ("pay", "cancel"),
    )


def _wait_of_order(status: OrderStatus, working_on: str, since: datetime, until: datetime | None) -> Wait | None:
    """What all of it waits for; None once its parcels are on their way, each by itself."""
    match status:
        case OrderStatus.PAYMENT_DUE:
            return Wait(
                part="payment",
                waiting_for="another card, since the last one was declined",
                since=since,
                until=until,
                then="the order is cancelled",
                who=(Actor.CUSTOMER,),
                updates=("pay", "cancel"),
            )
        case OrderStatus.ACTION_REQUIRED:
            return Wait(
                part="payment",
                waiting_for="the payment to be confirmed, e.g. at the bank",
                since=since,
                until=until,
                then="the order is cancelled",
                who=(Actor.CUSTOMER,),
                updates=("cancel",),
            )
        case OrderStatus.IN_REVIEW:
            return Wait(
                part="order",
                waiting_for="somebody of the shop to look at it before anything leaves",
                since=since,
                until=until,
                then="the order is cancelled",
                who=(Actor.SUPPORT,),
                updates=("approve", "reject", "cancel"),
            )
        case OrderStatus.PENDING | OrderStatus.RESERVED | OrderStatus.PAID | OrderStatus.CANCELLING:
            return Wait(part="order", waiting_for=working_on, since=since, who=(Actor.PLATFORM,))
    return None


def _waits_of_undos(stuck: tuple[str, ...], since: datetime) -> Iterator[Wait]:
    """Undos that do not succeed."""
    for name in stuck:
        yield Wait(
            part=f"undo {name}",
            waiting_for="the service that it asks; it is tried again until it succeeds",
            since=since,
            who=(Actor.PLATFORM, Actor.SUPPORT),
            updates=("settle_undo",),
        )


def _wait_of_parcel(parcel: Parcel, due: Callable[[Parcel], datetime], began: datetime) -> Wait | None:
    """None if nothing more happens to it."""
    part, since = f"parcel {parcel.number}", parcel.quiet_since or began
    match parcel.status:
        case ParcelStatus.AWAITED:
            asked = parcel.answer_until is not None
            when = f" by {parcel.expected_on:%Y-%m-%d}" if parcel.expected_on else ""
            return Wait(
                part=part,
                waiting_for=f"goods to arrive{when}" + (", and the customer to say whether to wait" if asked else ""),
                since=since,
                until=parcel.answer_until,
                then="these goods are left out" if asked else None,
                who=(Actor.WAREHOUSE, Actor.CUSTOMER),
                updates=("answer_shortage", "cancel"),
            )
        case ParcelStatus.RESERVED:
            words = "the goods of the order's other parcels"
            return Wait(part=part, waiting_for=words, since=since, who=(Actor.WAREHOUSE,), updates=("cancel",))
        case ParcelStatus.BOOKED:
            return Wait(
                part=part,
                waiting_for="the warehouse to hand it over to the carrier",
                since=since,
                until=due(parcel),
                then="somebody of the shop is asked about it",
                who=(Actor.WAREHOUSE,),
                updates=("cancel",),
            )
        case ParcelStatus.SHIPPED:
            return Wait(
                part=part,
                waiting_for="the carrier to deliver it",
                since=since,
                until=due(parcel),
                then="somebody of the shop is asked about it",
                who=(Actor.CARRIER,),
            )
        case ParcelStatus.UNDELIVERED if parcel.trouble:
            return Wait(
                part=part,
                waiting_for=f"somebody of the shop to decide about it: {IN_TROUBLE[parcel.trouble]}",
                since=since,
                until=due(parcel),
                then=CARRIED_OUT[CHOICES[parcel.trouble][0]],
                who=(Actor.SUPPORT,),
                updates=("decide_parcel",),
            )
    return None
