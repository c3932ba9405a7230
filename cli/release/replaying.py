"""Whether this tree's saga can go on with an order that another build has brought so far."""

from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

from worker import SANDBOX, WORKFLOWS


async def replays(history: WorkflowHistory, converter: DataConverter) -> str | None:
    """None if the history replays on this tree, else why it does not."""
    replayer = Replayer(workflows=WORKFLOWS, data_converter=converter, workflow_runner=SANDBOX)
    try:
        await replayer.replay_workflow(history)
    except (workflow.NondeterminismError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return None
