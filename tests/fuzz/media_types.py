"""How the fuzzer writes bodies that are not JSON. Schemathesis loads this file by its path (`SCHEMATHESIS_HOOKS`)."""

from typing import Any

import schemathesis


@schemathesis.serializer("message/rfc822")
def mail(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """A made-up mail is any text."""
    return str(value).encode("utf-8", "surrogatepass")
