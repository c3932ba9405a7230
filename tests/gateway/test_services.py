"""The front door fits the services behind it: their own documents say what is public."""

from importlib import import_module
from typing import Any

import pytest

from chassis.settings import ServiceSettings
from cli.secrets import rsa_key
from contracts.platform import CLIENT_SECRETS
from gateway.openapi import merge
from gateway.routes import SERVICES, RouteTable

NOT_PUBLIC = ("/internal/", "/health/")


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    """The OpenAPI document of every service, built as its process builds it; nothing is connected."""
    secrets = (*CLIENT_SECRETS, "PAYMENT_PROVIDER_API_KEY", "CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JWT_PRIVATE_KEY", rsa_key())
        for secret in secrets:
            environment.setenv(secret, "a secret that is long enough")
        for address in ("PAYMENT_PROVIDER_URL", "CARRIER_URL"):
            environment.setenv(address, "http://nowhere")
        for service in SERVICES:
            environment.setenv(f"DATABASE_URL_{service.upper()}", f"postgresql://nowhere/{service}")
        return {service: _document(service) for service in SERVICES}


def _document(service: str) -> dict[str, Any]:
    app = import_module(f"services.{service}.app")
    named = f"{service.capitalize()}Settings"
    settings: type[ServiceSettings] = getattr(app, named)
    document: dict[str, Any] = app.build(settings()).api.openapi()
    return document


def test_every_public_endpoint_is_reachable_and_no_other(documents: dict[str, dict[str, Any]]) -> None:
    merged = merge(documents, RouteTable(), [])
    public = {
        (path, method)
        for document in documents.values()
        for path, item in document["paths"].items()
        if not path.startswith(NOT_PUBLIC)
        for method in item
    }
    assert {(path, method) for path, item in merged["paths"].items() for method in item} == public


def test_who_needs_no_token_in_the_service_needs_none_at_the_door(documents: dict[str, dict[str, Any]]) -> None:
    merged = merge(documents, RouteTable(), [])
    for document in documents.values():
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if not path.startswith(NOT_PUBLIC):
                    asks = bool(operation.get("security"))
                    assert asks == bool(merged["paths"][path][method].get("security")), (method, path)


def test_the_document_of_all_is_whole(documents: dict[str, dict[str, Any]]) -> None:
    merged = merge(documents, RouteTable(), [])

    def check(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(reference := value.get("$ref"), str):
                kind, name = reference.removeprefix("#/components/").split("/")
                assert name in merged["components"][kind], reference
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)

    check(merged)
    operations = [operation for item in merged["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] for operation in operations)
    assert merged["x-unavailable"] == []
