"""A customer has the bank take back what was paid; the bank decides whose it is; staff see to the refunds that were refused."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from uuid import UUID

from contracts.errors import Refusal
from contracts.orders import OrderState, UndoSettlement
from contracts.returns import ReturnState
from testing.explorer.adversary import USUAL
from testing.explorer.executions import PAYLOADS
from testing.explorer.playing import Playing
from testing.model.payment import Paid

HOUR, DAY = 3600.0, 86_400.0
BEGINS: Mapping[str, float] = {
    "as soon as it is paid": 0.0,
    "a minute later": 60.0,
    "an hour later": HOUR,
    "3 days later": 3 * DAY,
    "40 days later": 40 * DAY,
}
ENDS: Mapping[str, tuple[float, bool]] = {
    USUAL: (DAY, True),
    "for the shop, at once": (0.0, True),
    "for the shop, after 2 days": (2 * DAY, True),
    "for the customer": (DAY, False),
    "for the customer, at once": (0.0, False),
    "for the customer, after 2 days": (2 * DAY, False),
}
"""After how long the bank decides, and whether the shop keeps the money."""
REFUNDS = ("refund-", "give-back-")
"""How the steps are called that give money back."""


class Disputes:
    """Of one order; most have none. `settle`: how staff end a step by hand."""

    def __init__(
        self, playing: Playing, order_id: UUID, state: type[OrderState | ReturnState], settle: Callable[[UndoSettlement], None]
    ) -> None:
        self._playing, self._order_id, self._state, self._settle = playing, order_id, state, settle
        begins = playing.choices.choose("the customer disputes the payment", 0.15, [*BEGINS])
        self._wait = BEGINS.get(begins)
        self.settled: set[str] = set()
        """Which steps staff have ended by hand, since the bank had given the money to the customer."""

    def look(self) -> None:
        """Something has been paid, or not."""
        if self._wait is not None and any(paid.captured_minor for paid in self._paid.values()):
            wait, self._wait = self._wait, None
            self._playing.clock.after(wait, self._begin)

    @property
    def _paid(self) -> Mapping[int, Paid]:
        payments = self._playing.world.payments.payments
        return {attempt: paid for (order_id, attempt), paid in payments.items() if order_id == self._order_id}

    def _begin(self) -> None:
        attempts = [attempt for attempt, paid in self._paid.items() if paid.captured_minor > paid.refunded_minor]
        if not attempts:
            return
        self._playing.note("the customer disputes what was paid")
        for attempt in attempts:
            self._playing.world.payments.dispute(self._order_id, attempt)
        how = self._playing.choices.choose("the bank decides the dispute", 0.7, [name for name in ENDS if name != USUAL])
        after, won = ENDS[how]
        self._playing.clock.after(after, lambda: self._decide(won=won))

    def _decide(self, *, won: bool) -> None:
        self._playing.note(f"the bank decides the dispute for the {'shop' if won else 'customer'}")
        for attempt, paid in self._paid.items():
            if paid.disputed_minor:
                self._playing.world.payments.decide_dispute(self._order_id, attempt, won=won)
        self._see_to_it(HOUR)

    def _see_to_it(self, wait: float) -> None:
        """Staff try again what was refused, and end what can never be done; and look again later."""
        if not self._playing.engine.running:
            return
        for attempt, paid in self._paid.items():
            for key in list(paid.refused):
                with suppress(Refusal):
                    self._playing.world.payments.refund_again(self._order_id, attempt, key)
        if any(paid.refused for paid in self._paid.values()):
            self._end_by_hand()
        self._playing.clock.after(wait, lambda: self._see_to_it(min(2 * wait, DAY)))

    def _end_by_hand(self) -> None:
        answer = self._playing.engine.query("status")
        stuck = PAYLOADS.from_payload(answer, self._state).stuck_undos if answer is not None else ()
        for undo in stuck:
            if undo.startswith(REFUNDS):
                self.settled.add(undo)
                self._settle(UndoSettlement(by="operator", reason="the bank gave it back", undo=undo, done=False))
