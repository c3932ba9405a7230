"""Accounts: registering, verifying and changing an address, resetting a password, the profile."""

import pytest
from sqlmodel import select

from chassis.database import Database
from services.identity.model import outbox
from tests.services.identity.conftest import PASSWORD, Shop


@pytest.mark.parametrize(
    "weak", ["1234567890", " " * 10, "QwertyUIOP", "aaaaaaaaaaaa", "ada.lovelace@example.com", "Ada Lovelace"]
)
async def test_g12_weak_passwords_are_refused(shop: Shop, weak: str) -> None:
    person = {"email": "ada.lovelace@example.com", "password": weak, "name": "Ada Lovelace"}
    refused = await shop.http.post("/api/v1/auth/register", json=person)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == "password"


async def test_g12_registration_does_not_tell_which_address_exists(shop: Shop) -> None:
    first, second = await shop.register("ada@example.com"), await shop.register("ada@example.com", "another good one")
    assert first.status_code == second.status_code == 201
    assert first.json().keys() == second.json().keys()


async def test_g10_events_hold_no_personal_data(shop: Shop, database: Database) -> None:
    await shop.register("ada.lovelace@example.com")
    async with database.reading() as session:
        envelopes = str((await session.execute(select(outbox.table.c.envelope))).all())
    for personal in ("ada.lovelace", "example.com", "'Ada'", PASSWORD):
        assert personal not in envelopes
