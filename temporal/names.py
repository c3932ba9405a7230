"""Names that Temporal keeps. Never change one while an order is in flight: histories and operators refer to them."""

from typing import Any

from temporalio.common import SearchAttributeKey

ORDER_WORKFLOW = "Order"
RETURN_WORKFLOW = "Return"
ORDER_QUEUE = "orders"
ASKING_UPDATES = frozenset({"place"})
"""Updates that only wait for what happens anyway: nothing follows from them."""

ORDER_STATUS = SearchAttributeKey.for_keyword("OrderStatus")
CUSTOMER_ID = SearchAttributeKey.for_keyword("CustomerId")
ORDER_TOTAL = SearchAttributeKey.for_float("OrderTotal")
FAILURE_REASON = SearchAttributeKey.for_keyword("FailureReason")
STUCK_UNDO = SearchAttributeKey.for_keyword("StuckUndo")
PARCEL_TROUBLE = SearchAttributeKey.for_keyword("ParcelTrouble")
RETURN_STATUS = SearchAttributeKey.for_keyword("ReturnStatus")
SEARCH_ATTRIBUTES = (ORDER_STATUS, CUSTOMER_ID, ORDER_TOTAL, FAILURE_REASON, STUCK_UNDO, PARCEL_TROUBLE, RETURN_STATUS)
"""Each must be registered in the namespace before the first order. They are never encrypted: ids, states and sums only."""

PLACED_BY = "PlacedBy"
"""Memo: the id of the update that came with the start. It tells a repeated request from another one under the same key."""


def search_attribute_kind(key: SearchAttributeKey[Any]) -> str:
    """Its type as Temporal's command line takes it: `Keyword`, `Double`."""
    return key.indexed_value_type.name.title().replace("_", "")
