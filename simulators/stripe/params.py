"""Reading what a caller sent, a form or a query: bounded, typed, and refused in Stripe's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from simulators.stripe.errors import InvalidParameter

MOST_FIELDS = 300
LONGEST_TEXT = 5_000
LARGEST_AMOUNT = 999_999_999_999
CURRENCY = re.compile("[A-Za-z]{3}")
INTEGER = re.compile("-?[0-9]{1,18}")
METADATA_KEYS, METADATA_KEY, METADATA_VALUE = 50, 40, 500


@dataclass(frozen=True, slots=True)
class Page:
    limit: int
    starting_after: str | None
    ending_before: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """Seconds since 1970, both included."""

    first: int = 0
    last: int = 10**12


class Params:
    """Parameters by their bracketed names, checked as they are taken out; `done` refuses what nobody took."""

    def __init__(self, encoded: str | bytes) -> None:
        text = encoded.decode("utf-8", "replace") if isinstance(encoded, bytes) else encoded
        try:
            self.pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError as error:
            raise InvalidParameter("Invalid request body.") from error
        self._given = dict(self.pairs)
        self._left = dict(self.pairs)

    def done(self) -> None:
        if self._left:
            names = sorted({name.partition("[")[0] if name.endswith("]") else name for name in self._left})
            what = "parameter" if len(names) == 1 else "parameters"
            raise InvalidParameter(f"Received unknown {what}: {', '.join(names)}", "parameter_unknown", param=names[0])

    def given(self, name: str) -> bool:
        return name in self._given or any(known.startswith(f"{name}[") for known in self._given)

    def text(self, name: str, longest: int = LONGEST_TEXT, *, unset: bool = False) -> str | None:
        """`unset`: an empty text is allowed, and takes away what was there."""
        self._left.pop(name, None)
        value = self._given.get(name)
        if value is None or (unset and not value):
            return None
        if not value:
            raise InvalidParameter(f"You passed an empty string for '{name}'.", "parameter_invalid_empty", param=name)
        if len(value) > longest or "\0" in value:
            raise InvalidParameter(f"Invalid string: {name}; must be at most {longest} characters", param=name)
        return value

    def required(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise InvalidParameter(f"Missing required param: {name}.", "parameter_missing", param=name)
        return value

    def choice(self, name: str, *choices: str, unset: bool = False) -> str | None:
        value = self.text(name, unset=unset)
        if value is not None and value not in choices:
            raise InvalidParameter(f"Invalid {name}: must be one of {', '.join(choices)}", param=name)
        return value

    def integer(self, name: str, least: int = 0, most: int = LARGEST_AMOUNT) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not INTEGER.fullmatch(value):
            raise InvalidParameter(f"Invalid integer: {value[:100]}", "parameter_invalid_integer", param=name)
        number = int(value)
        if number < least:
            why = f"This value must be greater than or equal to {least}."
            raise InvalidParameter(why, "parameter_invalid_integer", param=name)
        if number > most:
            raise InvalidParameter(f"{name} must be no more than {most}.", "amount_too_large", param=name)
        return number

    def flag(self, name: str, *, default: bool = False) -> bool:
        value = self.text(name)
        if value not in (None, "true", "false"):
            raise InvalidParameter(f"Invalid boolean: {value}", param=name)
        return default if value is None else value == "true"

    def amount(self, name: str = "amount") -> int:
        amount = self.integer(name, least=1)
        if amount is None:
            raise InvalidParameter(f"Missing required param: {name}.", "parameter_missing", param=name)
        return amount

    def currency(self) -> str:
        currency = self.required("currency")
        if not CURRENCY.fullmatch(currency):
            raise InvalidParameter(f"Invalid currency: {currency[:20]}", param="currency")
        return currency.lower()

    def url(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.netloc or any(ord(letter) < 33 for letter in value):
                raise InvalidParameter("Not a valid URL", "url_invalid", param=name)
        return value

    def texts(self, name: str) -> list[str]:
        """A list: `name[]=a&name[]=b`, or with numbers between the brackets."""
        found = [(key, value) for key, value in self.pairs if key.startswith(f"{name}[")]
        for key, _ in found:
            self._left.pop(key, None)
        return [value for _, value in found]

    def part(self, name: str) -> dict[str, str]:
        """What is given under `name[…]`, with whatever brackets follow."""
        self._left.pop(name, None)  # an empty text takes all of it away
        start = len(name) + 1
        found = {key: value for key, value in self._given.items() if key.startswith(f"{name}[") and key.endswith("]")}
        for key in found:
            self._left.pop(key, None)
        return {key[start:-1]: value for key, value in found.items()}

    def metadata(self) -> dict[str, str]:
        found = {key: value for key, value in self.part("metadata").items() if value}
        if len(found) > METADATA_KEYS:
            raise InvalidParameter(f"You can have up to {METADATA_KEYS} metadata keys", param="metadata")
        for key, value in found.items():
            if not 1 <= len(key) <= METADATA_KEY or len(value) > METADATA_VALUE or "\0" in value:
                why = f"Metadata keys have up to {METADATA_KEY} characters, values up to {METADATA_VALUE}"
                raise InvalidParameter(why, param=f"metadata[{key[:METADATA_KEY]}]")
        return found

    def expand(self) -> Sequence[str]:
        return self.texts("expand")

    def page(self) -> Page:
        limit = self.integer("limit", 1, 100)
        after, before = self.text("starting_after"), self.text("ending_before")
        if after and before:
            raise InvalidParameter("You can only use one of starting_after and ending_before", param="starting_after")
        return Page(10 if limit is None else limit, after, before)

    def created(self) -> Created:
        exact = self.integer("created")
        if exact is not None:
            return Created(exact, exact)
        bounds = {name: self.integer(f"created[{name}]") for name in ("gt", "gte", "lt", "lte")}
        first = [bound + 1 if name == "gt" else bound for name, bound in bounds.items() if bound is not None and name[0] == "g"]
        last = [bound - 1 if name == "lt" else bound for name, bound in bounds.items() if bound is not None and name[0] == "l"]
        return Created(max(first, default=0), min(last, default=10**12))
