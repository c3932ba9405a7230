"""What is held of the money of one order, and what of it was taken: pure state and rules."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from contracts.money import Money
from contracts.orders import CaptureAt, HoldSoFar, OrderRun, OrderSoFar, OrderStatus, TakenSoFar
from workflows.parcels import Parcel, Parcels

EARLY = timedelta(hours=12)
"""So long before it ends, at most, a hold is renewed."""
NOT_HELD_YET = frozenset({OrderStatus.PENDING, OrderStatus.RESERVED, OrderStatus.PAYMENT_DUE, OrderStatus.ACTION_REQUIRED})


class Hold:
    """Of an order whose money is taken as its parcels leave. Of others there is nothing to know."""

    def __init__(self, order: OrderRun, parcels: Parcels) -> None:
        known = _known(order.so_far, parcels) if order.so_far else HoldSoFar()
        self.is_by_parcel = order.capture_at == CaptureAt.DISPATCH
        self.card = known.card or order.payment_token
        """Which is charged, if anything has to be."""
        self.attempt = known.attempt
        """Which attempt to pay holds what is still to be taken; None: none does."""
        self.until = known.until
        """When the provider lets go of it, if it has said so."""
        self.renew_at = known.renew_at
        self.taken = {one.parcel: one.amount for one in known.taken}
        """By the parcels that have left and of which nothing more is to be taken."""
        self.due = list(known.due)
        """For what another card is waited for."""
        self._parcels, self._nothing = parcels, Money.zero(order.total.currency)

    @property
    def pay_until(self) -> datetime | None:
        """Until when another card may be tried for all that one is waited for."""
        return min((due.until for due in self.due), default=None)

    @property
    def wakes_at(self) -> datetime | None:
        """When it has to be looked at next."""
        return min(filter(None, (self.renew_at, self.pay_until)), default=None)

    @property
    def is_due(self) -> bool:
        """Whether another card is waited for before anything more may leave."""
        return any(due.parcel is None for due in self.due)

    @property
    def to_take(self) -> list[Parcel]:
        """The parcels of which the price is still to be taken, when they leave; free ones are not among them."""
        owed = {due.parcel for due in self.due}
        open_ = [parcel for parcel in self._parcels.counting if parcel.number not in self.taken.keys() | owed]
        return [parcel for parcel in open_ if self._parcels.price_of([parcel]).minor]

    def taken_of(self, parcels: Iterable[Parcel]) -> Money:
        """What was taken for these parcels."""
        return sum((self.taken.get(parcel.number, self._nothing) for parcel in parcels), self._nothing)

    def begin(self, attempt: int, card: str, until: datetime | None, now: datetime) -> None:
        """This attempt holds what is still to be taken."""
        self.attempt, self.card, self.until = attempt, card, until
        self.renew_at = until - min(EARLY, (until - now) / 4) if until and until > now else None

    def end(self) -> None:
        """Nothing is held any more."""
        self.attempt = self.until = self.renew_at = None

    def replace(self, parcel: Parcel, other: Parcel) -> None:
        """The other takes its place: what was paid for the one is paid for the other."""
        if parcel.number in self.taken:
            self.taken[other.number] = self.taken.pop(parcel.number)
        self.due = [due.model_copy(update={"parcel": other.number}) if due.parcel == parcel.number else due for due in self.due]

    def so_far(self) -> HoldSoFar | None:
        """What the next run of the workflow has to know of it."""
        if not self.is_by_parcel:
            return None
        taken = tuple(TakenSoFar(parcel=parcel, amount=amount) for parcel, amount in self.taken.items())
        return HoldSoFar(
            attempt=self.attempt, until=self.until, renew_at=self.renew_at, card=self.card, taken=taken, due=tuple(self.due)
        )


def _known(so_far: OrderSoFar, parcels: Parcels) -> HoldSoFar:
    """What an earlier run knew of it. Of one that was lost it is supposed that the newest attempt holds what has not left, and
    that the rest was taken."""
    if so_far.hold or so_far.status in NOT_HELD_YET:
        return so_far.hold or HoldSoFar()
    left = [parcel for parcel in parcels if parcel.has_left]
    taken = tuple(TakenSoFar(parcel=parcel.number, amount=parcels.price_of([parcel])) for parcel in left)
    return HoldSoFar(attempt=so_far.attempt, taken=taken)
