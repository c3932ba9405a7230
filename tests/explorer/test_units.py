"""Any sequence of wishes for units, of splits and of parcels that leave, played by the real workflow: what the explorer checks
holds, above all that the customer has paid for what is not gone, to the cent."""

from hypothesis import given, settings
from hypothesis import strategies as st

from testing.explorer.adversary import USUAL, Story
from testing.explorer.checks import violations
from testing.explorer.explore import play_story
from testing.explorer.orders import CHARGES, CURRENCIES, SHELVES
from testing.explorer.run import FEWER

wishes = st.sampled_from([f"cancel {units}" for units in FEWER])
splits = st.sampled_from([f"split the {goods} of parcel {number}" for goods in ("milk", "cheese") for number in (1, 2, 3)])
moments = st.sampled_from(["1 s", "1 s", "1.001 s", "1.01 s", "5 s", "3600 s", "3600.001 s", "7200 s"])
messages = st.lists(st.tuples(wishes | splits, moments), min_size=1, max_size=6)


def test_the_rest_of_an_order_is_cancelled_when_all_others_have_arrived() -> None:
    """The record was told of a parcel that arrived, and of an order that is still under way."""
    story = {
        "shelves": "a warehouse for each line",
        "carrier of parcel 1": "is quick",
        "message 1": "cancel 1 cheese, after 1800 s",
    }
    assert violations(play_story(story)) == []


@settings(max_examples=60, deadline=None)
@given(
    messages,
    st.fixed_dictionaries(
        {},
        optional={
            "charges": st.sampled_from(CHARGES),
            "currency": st.sampled_from(CURRENCIES),
            "shelves": st.sampled_from([name for name in SHELVES if name != USUAL]),
            "when short": st.sampled_from(["drop", "wait", "ask"]),
            "delivery": st.just("all together"),
            "carrier of parcel 1": st.sampled_from(["is quick", "picks up after 20 days", "loses it"]),
            "carrier of parcel 2": st.just("comes within a minute"),
            "SplitReservation 1": st.sampled_from(["reply lost", "down", "twice"]),
            "RefundPayment 1": st.sampled_from(["reply lost", "arrives after 40 s"]),
        },
    ),
)
def test_what_is_paid_is_the_price_of_what_is_not_gone(said: list[tuple[str, str]], more: Story) -> None:
    story = {f"message {number}": f"{message}, after {moment}" for number, (message, moment) in enumerate(said, start=1)}
    played = play_story(story | more)
    assert violations(played) == [], played.log
