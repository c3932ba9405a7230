"""What callers send: bounded, typed, and refused with the field that is wrong. What we do not use is their own business."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import Request

from simulators._requests import read_raw
from simulators.easypost.refusals import Refusal, invalid, required

LARGEST_BODY = 256 * 1024
Text = Annotated[str, StringConstraints(max_length=500)]
Code = Annotated[str, StringConstraints(max_length=100)]
Measure = Annotated[float, Field(gt=0, le=10_000_000, allow_inf_nan=False)]
FORMATS = {"PNG": "image/png", "PDF": "application/pdf", "ZPL": "application/zpl"}


class Asked(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class AskedAddress(Asked):
    """A new one; or, with nothing but `id`, one that there is."""

    id: Code | None = None
    name: Text | None = None
    company: Text | None = None
    street1: Text | None = None
    street2: Text | None = None
    city: Text | None = None
    state: Text | None = None
    zip: Code | None = None
    country: Annotated[str, StringConstraints(min_length=2, max_length=2, to_upper=True)] | None = None
    phone: Code | None = None
    email: Text | None = None
    carrier_facility: Text | None = None
    residential: bool | None = None
    federal_tax_id: Code | None = None
    state_tax_id: Code | None = None
    verify: bool | list[Code] | Code = False
    verify_strict: bool | list[Code] | Code = False


class AskedParcel(Asked):
    """Inches and ounces."""

    id: Code | None = None
    length: Measure | None = None
    width: Measure | None = None
    height: Measure | None = None
    predefined_package: Code | None = None
    weight: Measure | None = None


class AskedItem(Asked):
    """`value` is of all `quantity` of them."""

    id: Code | None = None
    description: Text | None = None
    quantity: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    value: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    weight: Measure | None = None
    hs_tariff_number: Code | None = None
    origin_country: Code | None = None
    currency: Code | None = None
    code: Code | None = None
    manufacturer: Text | None = None
    eccn: Code | None = None
    printed_commodity_identifier: Code | None = None


class AskedCustoms(Asked):
    id: Code | None = None
    customs_certify: bool | None = None
    customs_signer: Text | None = None
    contents_type: Code | None = None
    contents_explanation: Text | None = None
    restriction_type: Code | None = None
    restriction_comments: Text | None = None
    non_delivery_option: Code | None = None
    eel_pfc: Code | None = None
    declaration: Text | None = None
    customs_items: Annotated[list[AskedItem], Field(max_length=500)] = Field(default_factory=list)


class AskedShipment(Asked):
    reference: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    to_address: AskedAddress | None = None
    from_address: AskedAddress | None = None
    return_address: AskedAddress | None = None
    buyer_address: AskedAddress | None = None
    parcel: AskedParcel | None = None
    customs_info: AskedCustoms | None = None
    is_return: bool = False
    options: Annotated[dict[Code, Any], Field(max_length=50)] = Field(default_factory=dict)


class AskedHeader(Asked):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    value: Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]{0,500}$")]


class AskedWebhook(Asked):
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]{1,500}$")]
    webhook_secret: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    custom_headers: Annotated[list[AskedHeader], Field(max_length=20)] = Field(default_factory=list)


class AskedTracker(Asked):
    tracking_code: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    carrier: Code | None = None


class AskedRate(Asked):
    id: Code


class CreateAddress(Asked):
    address: AskedAddress
    verify: bool | list[Code] | Code = False
    verify_strict: bool | list[Code] | Code = False


class CreateParcel(Asked):
    parcel: AskedParcel


class CreateCustoms(Asked):
    customs_info: AskedCustoms


class CreateItem(Asked):
    customs_item: AskedItem


class CreateShipment(Asked):
    shipment: AskedShipment


class CreateWebhook(Asked):
    webhook: AskedWebhook


class CreateTracker(Asked):
    tracker: AskedTracker


class TrackerBatch(Asked):
    tracking_codes: Annotated[list[Code], Field(min_length=1, max_length=100)]


class Buy(Asked):
    rate: AskedRate


Model = TypeVar("Model", bound=Asked)


async def read(request: Request, model: type[Model]) -> Model:
    """Refusals: PARAMETER.REQUIRED, PARAMETER.INVALID."""
    raw = await read_raw(request, LARGEST_BODY)
    try:
        found = model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _refused(error) from error
    for name in model.model_fields:
        if isinstance(part := getattr(found, name), Asked) and not part.model_fields_set:
            raise required(name)
    return found


def _refused(error: ValidationError) -> Refusal:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return Refusal(400, "BAD_REQUEST", "The body is not JSON.")
    missing = [".".join(map(str, problem["loc"])) for problem in problems if problem["type"] == "missing"]
    if missing:
        return required(*missing)
    first = invalid(".".join(map(str, problems[0]["loc"])), problems[0]["msg"])
    first.errors = [{"field": ".".join(map(str, problem["loc"])), "message": problem["msg"]} for problem in problems]
    return first
