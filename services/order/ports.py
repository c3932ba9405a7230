"""What the order service needs to know of taxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True)
class TaxRate:
    """One tax of a destination."""

    name: str
    """E.g. "VAT 19 %"."""
    rate: Decimal
    """E.g. 0.19; at most six decimals."""
    on_shipping: bool = True
    """Whether what a parcel costs is taxed, too."""


class Taxes(Protocol):
    """Who knows which taxes are due on goods that are sent somewhere."""

    async def rates(self, country: str, region: str | None) -> Sequence[TaxRate]:
        """All that are due there, each of the same sum; none, if no tax is known. `region` is as the country's post writes it,
        e.g. `CA`. Raises Unavailable."""
        ...
