"""What a customer sees who comes back from the bank."""

from http import HTTPStatus

from fastapi.responses import HTMLResponse

from chassis.pages import plain_page
from contracts.payments import PaymentStatus

LOOK_AGAIN_S = 5
_TAKEN = ("Thank you", "Your payment is confirmed, and your order goes on. You may close this page.")
_TOLD = {
    PaymentStatus.AUTHORIZED: _TAKEN,
    PaymentStatus.CAPTURED: _TAKEN,
    PaymentStatus.DECLINED: (
        "The payment was not confirmed",
        "Nothing was charged. If the shop still keeps your goods, you can pay your order with another card.",
    ),
    PaymentStatus.VOIDED: ("The order was cancelled", "Nothing was charged."),
    PaymentStatus.REFUNDED: ("The order was cancelled", "What was charged goes back to your card."),
}
_WAITS = ("One moment", "Your bank has not told us yet whether you confirmed the payment. This page looks again by itself.")


def return_page(status: PaymentStatus | None) -> HTMLResponse:
    """By where the payment is; None: there is none of that name."""
    if status is None:
        return plain_page("There is no such payment", "Is the address complete?", status=HTTPStatus.NOT_FOUND)
    if status in _TOLD:
        return plain_page(*_TOLD[status])
    return plain_page(*_WAITS, reload_after_s=LOOK_AGAIN_S)
