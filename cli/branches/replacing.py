"""The branches of the saga of an order that a return brought, and whose end that return is told."""

from collections.abc import Mapping
from uuid import uuid4

from cli.branches.stage import Branch, Stage, cancelled, delivered, then
from contracts.orders import Replaces
from contracts.returns import ReturnTerms
from temporal.names import RETURN_WORKFLOW
from temporal.returns import return_start_options
from testing.return_sagas import return_run


async def its_return_runs(stage: Stage) -> None:
    """Where it waits does not matter."""
    replaces = stage.saga.order.replaces
    assert replaces is not None
    run = return_run(terms=ReturnTerms(needs_approval=True), number=replaces.number)
    run = run.model_copy(update={"order_id": replaces.order_id})
    stage.world.returns.accept(run)
    options = return_start_options(run) | {"task_queue": stage.saga.queue}
    await stage.saga.env.client.start_workflow(RETURN_WORKFLOW, run, **options)


REPLACING: Mapping[str, Branch] = {
    name: Branch(play, options={"priced": True, "replaces": Replaces(order_id=uuid4(), number=1)})
    for name, play in {
        "replacement_delivered": then(its_return_runs, delivered),
        "replacement_cancelled": then(its_return_runs, cancelled),
        "replacement_of_a_return_that_is_over": then(delivered),
    }.items()
}
