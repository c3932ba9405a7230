"""What goes back: refunds that the shop or somebody in the dashboard makes, and disputes that a customer's bank makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulators.stripe.books import Books, Row, encoded, new_id
from simulators.stripe.cards import card_of
from simulators.stripe.errors import refused
from simulators.stripe.shapes import Shapes

EXPIRED_CARD = "expired_or_canceled_card"


class Refunds:
    def __init__(self, books: Books, shapes: Shapes, *, refund_s: Callable[[], float]) -> None:
        """`refund_s`: how long a refund takes that does not succeed at once, or that fails after it has."""
        self._books, self._shapes, self._refund_s = books, shapes, refund_s

    def charge_of(self, intent_id: str) -> Row:
        """What can be refunded of an intent."""
        row = self._books.one("payment_intents", intent_id, "payment_intent")
        charge = self._books.find("charges", row["latest_charge"]) if row["latest_charge"] else None
        if charge is None or not charge["amount_captured"]:
            why = f"This PaymentIntent ({intent_id}) does not have a successful charge to refund."
            raise refused(why, "payment_intent_unexpected_state", payment_intent=self._shapes.shown("payment_intents", row))
        return charge

    def create(self, charge: Row, amount: int | None, reason: str | None, metadata: Mapping[str, str]) -> Row:
        """Give back some of what was taken, or all."""
        left = charge["amount_captured"] - charge["amount_refunded"]
        wanted = left if amount is None else amount
        if not left:
            raise refused(f"Charge {charge['id']} has already been refunded.", "charge_already_refunded")
        if wanted > left - charge["amount_disputed"]:
            if charge["amount_disputed"]:
                why = f"Charge {charge['id']} has been charged back; cannot issue a refund."
                raise refused(why, "charge_disputed", charge=charge["id"])
            why = f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({left})"
            raise refused(why, param="amount")
        first, _, then = card_of(charge["card"]).refunds.partition(",")
        id_, failed = new_id("re"), first == "failed"
        due_at = self._books.clock() + self._refund_s() if then else None
        refund = self._books.insert(
            "refunds",
            id_,
            charge=charge["id"],
            payment_intent=charge["payment_intent"],
            amount=wanted,
            currency=charge["currency"],
            status=first,
            reason=reason,
            failure_reason=EXPIRED_CARD if failed else None,
            balance_transaction=None if failed else self._books.move("refund", "refund", -wanted, charge, id_),
            next_status=then or None,
            due_at=due_at,
            metadata=encoded(metadata),
        )
        shown = self._shapes.shown("refunds", refund)
        self._books.tell("refund.created", shown)
        if failed:
            self._books.tell("refund.failed", shown)
        else:
            self._change_charge(charge, wanted, "charge.refunded")
        if due_at is not None:
            self._books.will_be_due(due_at)
        return refund

    def cancel(self, refund_id: str) -> Row:
        refund = self._books.one("refunds", refund_id, "refund")
        raise refused(f"This refund cannot be canceled: it has a status of {refund['status']}.", param="refund")

    def end(self, refund_id: str, status: str) -> Row:
        """A refund arrives, or fails, also one that had arrived."""
        refund = self._books.one("refunds", refund_id, "refund")
        if refund["status"] == status:
            return refund
        if refund["status"] == "failed":
            raise refused("The refund has failed.")
        return self._end(refund, status)

    def settle(self) -> None:
        """Carry on with refunds that are under way."""
        due = "SELECT * FROM refunds WHERE next_status IS NOT NULL AND due_at <= ?"
        for refund in self._books.ledger.execute(due, (self._books.clock(),)).fetchall():
            self._end(refund, refund["next_status"])

    def _end(self, refund: Row, status: str) -> Row:
        before, failed = self._shapes.shown("refunds", refund), status == "failed"
        charge = self._books.one("charges", refund["charge"])
        back = self._books.move("refund_failure", "refund_failure", refund["amount"], charge, refund["id"]) if failed else None
        refund = self._books.update(
            "refunds",
            refund["id"],
            status=status,
            failure_reason=EXPIRED_CARD if failed else None,
            failure_balance_transaction=back,
            next_status=None,
            due_at=None,
        )
        shown = self._shapes.shown("refunds", refund)
        self._books.tell("refund.updated", shown, before)
        if failed:
            self._books.tell("refund.failed", shown, before)
            self._change_charge(charge, -refund["amount"], "charge.updated")
        return refund

    def _change_charge(self, charge: Row, amount: int, kind: str) -> None:
        before = self._shapes.shown("charges", charge)
        changed = self._books.update("charges", charge["id"], amount_refunded=charge["amount_refunded"] + amount)
        self._books.tell(kind, self._shapes.shown("charges", changed), before)

    # ── Disputes ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def dispute(self, charge: Row, amount: int | None, reason: str) -> Row:
        """The customer's bank takes the money, until it is decided whose it is."""
        left = charge["amount_captured"] - charge["amount_refunded"] - charge["amount_disputed"]
        wanted = left if amount is None else amount
        if not 0 < wanted <= left:
            raise refused("More than was taken and did not go back.", param="amount")
        id_ = new_id("dp")
        dispute = self._books.insert(
            "disputes",
            id_,
            charge=charge["id"],
            payment_intent=charge["payment_intent"],
            amount=wanted,
            currency=charge["currency"],
            status="needs_response",
            reason=reason,
        )
        self._books.update("charges", charge["id"], amount_disputed=charge["amount_disputed"] + wanted, disputed=1)
        self._books.move("adjustment", "dispute", -wanted, charge, id_)
        self._tell("created", dispute)
        self._tell("funds_withdrawn", dispute)
        return dispute

    def decide(self, dispute_id: str, status: str) -> Row:
        """The bank has decided: `won` or `lost`, by the shop."""
        dispute = self._books.one("disputes", dispute_id, "dispute")
        if dispute["status"] == status:
            return dispute
        if dispute["status"] != "needs_response":
            raise refused(f"The dispute is {dispute['status']}.")
        before = self._shapes.shown("disputes", dispute)
        if status == "won":
            charge = self._books.one("charges", dispute["charge"])
            left = charge["amount_disputed"] - dispute["amount"]
            self._books.update("charges", charge["id"], amount_disputed=left)
            self._books.move("adjustment", "dispute_reversal", dispute["amount"], charge, dispute_id)
        dispute = self._books.update("disputes", dispute_id, status=status)
        self._books.tell("charge.dispute.closed", self._shapes.shown("disputes", dispute), before)
        if status == "won":
            self._tell("funds_reinstated", dispute)
        return dispute

    def _tell(self, what: str, dispute: Row) -> None:
        self._books.tell(f"charge.dispute.{what}", self._shapes.shown("disputes", dispute))
