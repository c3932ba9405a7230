"""Who waits for whom: each wait leaves room for what it waits for, and the settings take their figures from the table."""

from contracts import budgets
from gateway.settings import GatewaySettings
from services.order.app import OrderSettings
from services.payment.app import PaymentSettings
from services.shipping.app import ShippingSettings


def test_s12_each_wait_leaves_room_for_what_it_waits_for() -> None:
    assert budgets.PROVIDER_CALL_S < budgets.FIRST_TRY_S < budgets.WORKFLOW_TASK_S
    assert budgets.PROVIDER_CALL_S < budgets.STEP_CALL_S < budgets.GATEWAY_SILENCE_S
    assert budgets.SERVICE_CALL_S + budgets.PLACE_WAIT_S < budgets.GATEWAY_SILENCE_S
    assert budgets.STEP_CALL_S < budgets.DRAIN_S
    assert budgets.SERVICE_CALL_S < budgets.KEY_WAIT_S < budgets.WORKFLOW_TASK_S
    assert max(budgets.PROVIDER_CALL_S, budgets.PLACE_WAIT_S) < budgets.SERVICE_DRAIN_S
    assert budgets.BREAKER_S < budgets.FIRST_TRY_S
    assert budgets.LOCK_WAIT_S < budgets.FIRST_TRY_S
    assert budgets.LOCK_WAIT_S + budgets.TRY_AGAIN_S < budgets.STEP_CALL_S


def test_settings_take_their_defaults_from_the_table() -> None:
    assert PaymentSettings.model_fields["payment_provider_timeout_seconds"].default == budgets.PROVIDER_CALL_S
    assert ShippingSettings.model_fields["carrier_timeout_seconds"].default == budgets.PROVIDER_CALL_S
    assert OrderSettings.model_fields["place_wait_seconds"].default == budgets.PLACE_WAIT_S
    assert GatewaySettings.model_fields["upstream_timeout_s"].default == budgets.GATEWAY_SILENCE_S


def test_a_provider_may_not_be_given_longer_than_the_first_try_of_a_step() -> None:
    for settings, field in (
        (PaymentSettings, "payment_provider_timeout_seconds"),
        (ShippingSettings, "carrier_timeout_seconds"),
    ):
        assert [limit.lt for limit in settings.model_fields[field].metadata if hasattr(limit, "lt")] == [budgets.FIRST_TRY_S]
