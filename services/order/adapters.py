"""Taxes from a table that comes with the service: `taxes.csv`."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Self

from services.order.ports import TaxRate

TABLE = Path(__file__).parent / "taxes.csv"


class TaxTable:
    """The rates of each country, and of each region where regions have their own. Where a region stands in the table, its rows
    are all that is due there; other regions have the rows of their country."""

    def __init__(self, rates: Mapping[tuple[str, str], Sequence[TaxRate]]) -> None:
        self._rates = rates

    @classmethod
    def read(cls, lines: Iterable[str]) -> Self:
        """From CSV with the columns country, region, name, percent, on_shipping (yes or no); lines with `#` are remarks. Raises
        ValueError."""
        rates: dict[tuple[str, str], list[TaxRate]] = {}
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            tax = TaxRate(row["name"], Decimal(row["percent"]) / 100, on_shipping={"yes": True, "no": False}[row["on_shipping"]])
            rates.setdefault((row["country"], row["region"]), []).append(tax)
        return cls(rates)

    @classmethod
    def shipped(cls) -> Self:
        """The table that comes with the service."""
        with TABLE.open() as lines:
            return cls.read(lines)

    async def rates(self, country: str, region: str | None) -> Sequence[TaxRate]:
        found = self._rates.get((country, (region or "").upper()))
        return found if found is not None else self._rates.get((country, ""), ())
