"""How the pieces of a configuration are written."""

from typing import Any

Json = dict[str, Any]

SET = "OVERWRITE_IF_EXISTS_OR_ADD"
DEFAULT = "ADD_IF_ABSENT"


def extension(name: str, message: str, **config: Any) -> Json:
    """An extension of Envoy's: `message` is the type of its configuration, without `envoy.extensions.`."""
    return {"name": name, "typed_config": typed(message, **config)}


def typed(message: str, **config: Any) -> Json:
    """A configuration that carries its type."""
    return {"@type": f"type.googleapis.com/envoy.extensions.{message}", **config}


def seconds(value: float) -> str:
    """A duration as Envoy reads it."""
    return f"{value:g}s"


def headers(values: dict[str, str], action: str = SET) -> list[Json]:
    """Headers that are added to each request or answer. A value that comes out empty is left out."""
    return [{"header": {"key": name, "value": value}, "append_action": action} for name, value in values.items()]
