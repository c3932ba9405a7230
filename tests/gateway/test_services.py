"""The front door fits the services behind it: their own documents say what is public."""

from typing import Any

import pytest

from cli.release.documents import service_documents
from gateway.openapi import merge
from gateway.routes import RouteTable

NOT_PUBLIC = ("/internal/", "/health/")


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    """The OpenAPI document of every service."""
    return service_documents()


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
