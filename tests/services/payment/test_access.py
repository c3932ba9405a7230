"""Who may what with payments: everything, asked by everybody."""

import httpx2

from contracts.identity import Role
from tests.access import Rows, assert_access
from tests.conftest import TokenMint
from tests.services.payment.conftest import pay, refund_of


async def test_everybody_may_what_the_table_says(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    async def a_payment() -> Rows:
        """One with a refund that takes days, and something that is owed."""
        service = mint.headers(Role.SERVICE)
        for command in (pay("pm_sim_refund_refused"), pay("pm_card_pendingRefund")):
            body = command.model_dump(mode="json")
            payment = await client.post("/internal/v1/payments/process", json=body, headers=service)
            part = refund_of(command).model_copy(update={"amount": command.amount, "key": "part"})
            await client.post("/internal/v1/payments/refund", json=part.model_dump(mode="json"), headers=service)
        owed = await client.get("/api/v1/payments/owed", headers=mint.headers(Role.ADMIN))
        [debt] = owed.json()["items"][-1:]
        names = {"payment_id": payment.json()["payment_id"], "key": "part", "debt_id": debt["debt_id"]}
        return Rows(names, owner=command.customer_id)

    await assert_access("payment", client, mint, a_payment)


async def test_g10_a_warehouse_reads_no_payments(client: httpx2.AsyncClient, mint: TokenMint) -> None:
    body = pay().model_dump(mode="json")
    payment = (await client.post("/internal/v1/payments/process", json=body, headers=mint.headers(Role.SERVICE))).json()
    for path in ("", "/ledger", f"/{payment['payment_id']}", f"/{payment['payment_id']}/movements"):
        response = await client.get(f"/api/v1/payments{path}", headers=mint.headers(Role.WAREHOUSE))
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
