"""Cancelling some units of an order that is confirmed: of what has not left, what is awaited first, then what is not booked.

A parcel of which nothing is wanted any more is called off as ever. Of one without a label, inventory splits off what is
cancelled. The label of any other is called off first: the carrier decides whether it has left, and then it keeps all that is in
it. If not, what is still wanted goes in a new parcel, which is booked anew, and the old one is called off with what is not. From
the carrier's answer on, everything has to succeed.
"""

from collections.abc import Iterable, Mapping, Sequence

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from contracts.errors import ErrorCode, Refusal
    from contracts.money import Money
    from contracts.orders import CancelReply
    from contracts.parcels import ParcelLine
    from temporal.retries import HAS_TO_SUCCEED
    from workflows import order_steps as steps
    from workflows.parcels import Parcel, Taken, lines_by_id, units_by_line
    from workflows.saga import Undo

from workflows.messages import MOST_PARCELS, TOO_LATE, UnitsWish, told_of
from workflows.payment import Paying


class CancellingUnits(Paying):
    """The part of an order's workflow that cancels some of it."""

    async def _cancel_units(self, wish: UnitsWish) -> None:
        progress, parcels, request = self._progress, self._parcels, wish.request
        chosen = parcels.last_units(request.lines)
        if refusal := self._why_not(units_by_line(request.lines)) or self._why_too_many(chosen):
            wish.answer = refusal
            return
        if len(chosen) == len(parcels.counting) and all(taken.is_whole for taken in chosen):
            all_of_it = self._wish_to_cancel(request.model_copy(update={"lines": (), "key": None}))
            await self._cancel(Refusal(ErrorCode.CANCELLED_BY_REQUEST, "Cancelled."), "")
            wish.answer = all_of_it.answer
            return
        reason, for_staff = told_of(request)
        left = await self._ask_the_carrier([taken.parcel for taken in chosen if taken.is_whole or taken.parcel.has_label])
        for number, refusal in left.items():
            progress.note("Cannot be cancelled any more", refusal.detail, for_staff=f"parcel {number}")
        stayed = [taken for taken in chosen if taken.parcel.number not in left]
        if not stayed:
            self._register_undos()
            wish.answer = next(iter(left.values()), TOO_LATE)
            return
        words = f"Cancelled: {self._named(stayed)}."
        progress.note(words, for_staff=for_staff)
        before = progress.refunded or Money.zero(self._order.total.currency)
        await self._give_back(await self._set_apart(stayed), reason.detail)
        refunded = (progress.refunded or before) - before
        if self._parcels.to_book():
            await self._book_what_may_leave(HAS_TO_SUCCEED.ends_on(steps.CANNOT_BE_SENT))
        await self._settle_status()
        if left:
            words += (
                f" Not cancelled: {self._named([taken for taken in chosen if taken.parcel.number in left])}; {_have_left(left)}."
            )
        wish.answer = CancelReply(order_id=self._order.order_id, status=progress.status, refunded=refunded, detail=words)

    def _why_too_many(self, chosen: Iterable[Taken]) -> Refusal | None:
        """Whether more parcels would come of it than an order may have."""
        parts = sum(not taken.is_whole for taken in chosen)
        if self._parcels.tried + parts <= MOST_PARCELS:
            return None
        return Refusal(
            ErrorCode.CONFLICT, f"An order has no more than {MOST_PARCELS} parcels; cancel all of a parcel, or nothing."
        )

    async def _set_apart(self, chosen: Sequence[Taken]) -> list[Parcel]:
        """The parcels that have what is cancelled, and nothing else."""
        parts = [taken for taken in chosen if not taken.is_whole]
        others = [self._parcels.apart(taken, self._parcels.tried + place) for place, taken in enumerate(parts, start=1)]
        self._saga.forget()
        for taken, other in zip(parts, others, strict=True):
            label = f" of parcel {taken.parcel.number}"
            self._saga.add(Undo(steps.split_reservation(self._order, taken.parcel, other, label)))
        await self._saga.compensate()
        for taken, other in zip(parts, others, strict=True):
            self._parcels.split(taken.parcel, other)
        apart = {taken.parcel.number: other for taken, other in zip(parts, others, strict=True) if not taken.parcel.has_label}
        return [apart.get(taken.parcel.number, taken.parcel) for taken in chosen]

    def _named(self, chosen: Iterable[Taken]) -> str:
        """What is cancelled, in words of the customer."""
        lines = lines_by_id(self._order)
        return ", ".join(f"{part.quantity} of {lines[part.line_id].name}" for part in _together(chosen))


def _together(chosen: Iterable[Taken]) -> list[ParcelLine]:
    """The units of each line, whatever parcels they come from."""
    of_line: dict[int, ParcelLine] = {}
    for part in (part for taken in chosen for part in taken.lines):
        known = of_line.get(part.line_id)
        more = known.quantity if known else 0
        of_line[part.line_id] = part.model_copy(update={"quantity": part.quantity + more})
    return [of_line[line_id] for line_id in sorted(of_line)]


def _have_left(left: Mapping[int, Refusal]) -> str:
    numbers = [str(number) for number in sorted(left)]
    return f"parcel {numbers[0]} has left" if len(numbers) == 1 else f"parcels {', '.join(numbers)} have left"
