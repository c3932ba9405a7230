"""What may be set, and how parcels are sent then."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from chassis.clients import HttpSession
from contracts.errors import ErrorCode, Refusal
from services.shipping.app import ShippingSettings, sending_of
from services.shipping.model.choosing import Preference
from services.shipping.model.packing import BOXES
from services.shipping.sending import SAMPLE

KEY = {"CARRIER_API_KEY": "key-of-the-tests", "CARRIER_WEBHOOK_SECRET": "a-new-secret-0123, an-old-secret-0123"}
DESK = (
    '{"name": "Desk", "line1": "1 Dock Road", "city": "Reno", "region": "NV", "postal_code": "89501", "country": "US",'
    ' "phone": "555"}'
)


def settings(monkeypatch: pytest.MonkeyPatch, **environment: str) -> ShippingSettings:
    monkeypatch.setenv("DATABASE_URL_SHIPPING", "postgresql://nobody@127.0.0.1/nothing")
    for name in ("CARRIERS", "CARRIER_URL", "CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return ShippingSettings()


def test_a_key_is_all_that_a_switch_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(monkeypatch, **KEY)
    assert found.carrier_url == "https://api.easypost.com"
    assert [secret.get_secret_value() for secret in found.webhook_secrets] == ["a-new-secret-0123", "an-old-secret-0123"]
    sending = sending_of(found, HttpSession())
    assert [carrier.name for carrier in sending.carriers] == ["easypost"]
    assert (sending.boxes, sending.preference, sending.place_of("410")) == (BOXES, Preference.PRICE, SAMPLE)


def test_our_own_vans_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [carrier.name for carrier in sending_of(settings(monkeypatch, CARRIERS="tariff"), HttpSession()).carriers] == [
        "tariff"
    ]
    both = sending_of(settings(monkeypatch, CARRIERS="easypost, tariff", **KEY), HttpSession())
    assert [carrier.name for carrier in both.carriers] == ["easypost", "tariff"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"CARRIER_API_KEY": "key"},
        KEY | {"CARRIER_WEBHOOK_SECRET": "short"},
        KEY | {"CARRIER_WEBHOOK_SECRET": "a-new-secret-0123,"},
        KEY | {"CARRIERS": "easypost,easypost"},
        KEY | {"CARRIERS": "pigeons"},
        KEY | {"CARRIER_CHOICE": "beauty"},
        KEY | {"BOXES": '[{"name": "bottomless", "length": 1, "width": 1, "height": 1, "own_grams": 0, "most_grams": 1}]'},
        KEY | {"WAREHOUSE_ADDRESSES": '{"*": {"name": "Desk"}}'},
    ],
)
def test_what_cannot_work_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(monkeypatch, **wrong)
    assert "secret-0123" not in str(refused.value)


def test_where_parcels_leave_from_and_in_which_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    box = '[{"name": "crate", "length": 400, "width": 300, "height": 300, "own_grams": 900, "most_grams": 25000}]'
    sending = sending_of(settings(monkeypatch, **KEY, BOXES=box, WAREHOUSE_ADDRESSES=f'{{"410": {DESK}}}'), HttpSession())
    place = sending.place_of("410")
    assert (place.address.city, place.phone, [box.name for box in sending.boxes]) == ("Reno", "555", ["crate"])
    with pytest.raises(Refusal) as refused:
        sending.place_of("411")
    assert refused.value.code == ErrorCode.WAREHOUSE_UNKNOWN
    assert isinstance(settings(monkeypatch, **KEY).carrier_api_key, SecretStr)
