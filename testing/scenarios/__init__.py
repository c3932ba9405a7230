"""Which baskets meet what, what happens then, and what must come of it."""

from testing.scenarios.orders import just_order
from testing.scenarios.seen import Play, Scenario, Seen
from testing.scenarios.table import GROUP, ORDINARY, PLACES, STORIES, TOO_HEAVY, rule_of, scenario_for

__all__ = [
    "GROUP",
    "ORDINARY",
    "PLACES",
    "STORIES",
    "TOO_HEAVY",
    "Play",
    "Scenario",
    "Seen",
    "just_order",
    "rule_of",
    "scenario_for",
]
