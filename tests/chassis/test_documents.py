"""What each service says about itself is what it does."""

from typing import Any

import pytest

from contracts.platform import SERVICE_NAMES
from tests.input.test_bounds import document


def formats(schema: Any) -> set[str]:
    """All that stand anywhere in a document."""
    if isinstance(schema, list):
        return set[str]().union(*map(formats, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["format"]} if isinstance(schema.get("format"), str) else set()
    return own.union(*map(formats, schema.values()))


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_every_refusal_is_described_as_problem_details(service: str) -> None:
    described = [
        (f"{method.upper()} {path} {status}", media_type)
        for path, item in document(service)["paths"].items()
        for method, operation in item.items()
        for status, response in operation["responses"].items()
        for media_type in response.get("content", {})
        if status >= "400"
    ]
    assert described
    assert [each for each in described if each[1] not in ("application/problem+json", "text/html")] == []


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_no_time_of_day_is_promised_with_a_zone(service: str) -> None:
    """`format: time` is one with a zone (RFC 3339), which Python's `time` has not."""
    assert "time" not in formats(document(service))
