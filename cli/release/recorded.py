"""What a history holds: which commands it recorded, and which payloads somebody has to read once more."""

import json
from collections.abc import Iterator
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from cli.release.replaying import Command, attributes, name_in, other_queue, seconds, value_of, values
from cli.release.surface import Kind, Part, Place

LOCAL_ACTIVITY = "core_local_activity"
"""The marker that keeps what a local activity answered. What it was asked is in no history."""


def commands_in(history: WorkflowHistory) -> Iterator[Command]:
    """What the saga asked for when the history was made, in the words of `replaying.command_of`. Local activities are missing:
    their arguments are in no history."""
    queue = history.events[0].workflow_execution_started_event_attributes.task_queue.name
    updates = dict(_update_names(history))
    for event in history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                it = event.activity_task_scheduled_event_attributes
                content = {
                    "id": it.activity_id,
                    "queue": other_queue(it.task_queue.name, queue),
                    "argument": values(it.input.payloads),
                }
                yield Command("activity", it.activity_type.name, content)
            case EventType.EVENT_TYPE_TIMER_STARTED:
                yield Command("timer", "", {"seconds": seconds(event.timer_started_event_attributes.start_to_fire_timeout)})
            case EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
                found = attributes(event.upsert_workflow_search_attributes_event_attributes.search_attributes)
                if found:
                    yield Command("attributes", "", found)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
                done = event.workflow_execution_update_completed_event_attributes
                name, outcome = updates.get(done.meta.update_id, ""), done.outcome
                if outcome.HasField("failure"):
                    yield Command("update", name, {"refused": outcome.failure.application_failure_info.type})
                else:
                    yield Command("update", name, {"result": values(outcome.success.payloads)})
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                ended = event.workflow_execution_completed_event_attributes
                yield Command("result", name_in(_workflow_of(history)), {"result": values(ended.result.payloads)})
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                run = event.workflow_execution_continued_as_new_event_attributes
                content = {"queue": other_queue(run.task_queue.name, queue), "argument": values(run.input.payloads)}
                yield Command("next run", name_in(_workflow_of(history)), content)


def ends_within_a_task(history: WorkflowHistory) -> bool:
    """Whether a task was under way: then a replay asks for more than the history holds yet."""
    tasks = (
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    )
    last = [event.event_type for event in history.events if event.event_type in tasks][-1:]
    return last != [EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]


def payloads_in(history: WorkflowHistory) -> Iterator[tuple[Place, Any]]:
    """Every value that the history stores, with where it belongs: whoever goes on with the order has to read them."""
    activities, updates, workflow = dict(_activity_names(history)), dict(_update_names(history)), _workflow_of(history)
    for event in history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                begun = event.workflow_execution_started_event_attributes
                yield from _each(Kind.WORKFLOW, begun.workflow_type.name, Part.ARGUMENT, begun.input.payloads)
                yield from ((Place(Kind.MEMO, name, Part.VALUE), value_of(it)) for name, it in begun.memo.fields.items())
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                told = event.workflow_execution_signaled_event_attributes
                yield from _each(Kind.SIGNAL, name_in(workflow, told.signal_name), Part.ARGUMENT, told.input.payloads)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                asked = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
                yield from _each(Kind.UPDATE, name_in(workflow, asked.name), Part.ARGUMENT, asked.args.payloads)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
                done = event.workflow_execution_update_completed_event_attributes
                yield from _each(Kind.UPDATE, updates.get(done.meta.update_id, ""), Part.RESULT, done.outcome.success.payloads)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                it = event.activity_task_scheduled_event_attributes
                yield from _each(Kind.ACTIVITY, it.activity_type.name, Part.ARGUMENT, it.input.payloads)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                name = activities[completed.scheduled_event_id]
                yield from _each(Kind.ACTIVITY, name, Part.RESULT, completed.result.payloads)
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                marker = event.marker_recorded_event_attributes
                if marker.marker_name == LOCAL_ACTIVITY and "result" in marker.details:
                    about = json.loads(marker.details["data"].payloads[0].data)
                    yield from _each(Kind.ACTIVITY, about["activity_type"], Part.RESULT, marker.details["result"].payloads)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
                ended = event.workflow_execution_completed_event_attributes
                yield from _each(Kind.WORKFLOW, workflow, Part.RESULT, ended.result.payloads)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                run = event.workflow_execution_continued_as_new_event_attributes
                yield from _each(Kind.WORKFLOW, run.workflow_type.name, Part.ARGUMENT, run.input.payloads)


def _each(kind: Kind, name: str, part: Part, payloads: Any) -> Iterator[tuple[Place, Any]]:
    return ((Place(kind, name, part), value) for value in values(payloads))


def _activity_names(history: WorkflowHistory) -> Iterator[tuple[int, str]]:
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            yield event.event_id, event.activity_task_scheduled_event_attributes.activity_type.name


def _update_names(history: WorkflowHistory) -> Iterator[tuple[str, str]]:
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            request = event.workflow_execution_update_accepted_event_attributes.accepted_request
            yield request.meta.update_id, name_in(_workflow_of(history), request.input.name)


def _workflow_of(history: WorkflowHistory) -> str:
    """The type of the workflow whose history it is."""
    return history.events[0].workflow_execution_started_event_attributes.workflow_type.name
