"""What the platform tells others it can do: one OpenAPI document of its HTTP API, one AsyncAPI document of its events."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from chassis.settings import ServiceSettings
from cli.secrets import rsa_key
from contracts.events import EVENT_TYPES, TOPICS, CloudEvent, Event
from contracts.platform import CLIENT_SECRETS, SERVICE_NAMES
from gateway.openapi import merge
from gateway.routes import RouteTable

Json = dict[str, Any]
_ADDRESSES = ("PAYMENT_PROVIDER_URL", "CARRIER_URL")
_SECRETS = (
    *("PAYMENT_PROVIDER_API_KEY", "PAYMENT_WEBHOOK_SECRET", "CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET"),
    *("NOTIFICATION_SECRETS", *CLIENT_SECRETS),
)


def openapi() -> Json:
    """The document that the gateway shows when every service answers."""
    return merge(service_documents(), RouteTable(), [])


def service_documents() -> dict[str, Json]:
    """The OpenAPI document of every service, built as its process builds it; nothing is connected."""
    settings = _settings()
    return {service: _document(service, settings) for service in SERVICE_NAMES}


def _document(service: str, settings: Mapping[str, Any]) -> Json:
    app = import_module(f"services.{service}.app")
    kind: type[ServiceSettings] = getattr(app, f"{service.capitalize()}Settings")
    document: Json = app.build(kind(**settings)).api.openapi()
    return document


def _settings() -> dict[str, Any]:
    """With which the services can be built, though not run. Some are known by their variable, others by their field."""
    values = {
        "JWT_PRIVATE_KEY": rsa_key(),
        "HISTORIES_IN_CLEAR": "true",
        **dict.fromkeys(_ADDRESSES, "http://nowhere"),
        **dict.fromkeys(_SECRETS, "a secret that is long enough"),
        **{f"DATABASE_URL_{service.upper()}": f"postgresql://nowhere/{service}" for service in SERVICE_NAMES},
    }
    return values | {name.lower(): value for name, value in values.items()}


def asyncapi() -> Json:
    """Every event on its topic, as it stands in the Kafka message."""
    types: dict[str, Any] = {"CloudEvent": CloudEvent, **EVENT_TYPES}
    modes = [(name, "serialization", TypeAdapter[Any](kind)) for name, kind in types.items()]
    schemas, shared = TypeAdapter.json_schemas(modes, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    envelope = _resolved(schemas["CloudEvent", "serialization"], shared["$defs"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "DistributedCommerce events",
            "version": "1.0.0",
            "description": "Facts in the past tense, as CloudEvents 1.0 in structured JSON mode. Each is delivered at least "
            "once and applied once; those with the same key arrive in order.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic: _channel(topic) for topic in TOPICS},
        "operations": {f"publish-{topic}": {"action": "send", "channel": {"$ref": f"#/channels/{topic}"}} for topic in TOPICS},
        "components": {
            "messages": {name: _message(kind, envelope, schemas[name, "serialization"]) for name, kind in EVENT_TYPES.items()},
            "schemas": {name: schema for name, schema in sorted(shared["$defs"].items()) if name != "CloudEvent"},
        },
    }


def _channel(topic: str) -> Json:
    names = [name for name, kind in EVENT_TYPES.items() if kind.topic == topic]
    return {"address": topic, "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names}}


def _message(kind: type[Event], envelope: Json, data: Json) -> Json:
    told = {"name": kind.__name__, "contentType": "application/cloudevents+json"}
    if kind.__doc__ and kind.__doc__ != Event.__doc__:
        told["summary"] = " ".join(kind.__doc__.split())
    properties = {**envelope["properties"], "type": {"const": kind.__name__, "type": "string"}, "data": data}
    key = {"type": "string", "description": f"`partitionkey`: {key_of(kind)}"}
    return {**told, "bindings": {"kafka": {"key": key}}, "payload": {**envelope, "properties": properties}}


def key_of(kind: type[Event]) -> str:
    """By which fields an event is kept in order, e.g. `{order_id}`."""
    named: Any = {name: "{" + name + "}" for name in kind.model_fields}
    return kind.model_construct(**named).key


def _resolved(schema: Json, shared: Json) -> Json:
    reference = schema.get("$ref")
    return shared[reference.rpartition("/")[2]] if reference else schema
