"""How long anybody waits for anybody, in seconds: one table, because each must leave room for what it waits for.

a call of an outside company  <  the first try of a step around it  <  Temporal's limit for a workflow task
a call of an outside company  <  a durable try of a step
a wait for a key  <  Temporal's limit for a workflow task
a wait for a lock  <  the first try of a step; begun anew until  <  a durable try of a step
what a client waits for an outcome  <  what the gateway gives a request
"""

PROVIDER_CALL_S = 6.0
"""One call of the card processor or the carrier. No longer: a slow one is asked again, under the same reference."""
FIRST_TRY_S = 8.0
"""The first try of a step, within the workflow's own task."""
WORKFLOW_TASK_S = 10.0
"""Temporal's own limit for a task, after which it is given to another worker."""
STEP_CALL_S = 30.0
"""One try of a step that runs as a durable activity."""
LOCK_WAIT_S = 5.0
"""How long one try of a command waits for a row that others work on."""
TRY_AGAIN_S = 20.0
"""How long a command that others are in the way of begins anew, before that is a fault."""
SERVICE_CALL_S = 5.0
"""A question that one service asks another while its client waits."""
ENDED_SESSIONS_WAIT_S = 10.0
"""How long identity may keep a process waiting that asks which sessions have ended, if none has. A connection that was lost
without a sign is given up after this and SERVICE_CALL_S."""
PLACE_WAIT_S = 5.0
"""How long a client waits for the outcome of its order, or of its cancellation; after that the answer is 202."""
KEY_WAIT_S = 6.0
"""How long the worker goes on asking the order service for a customer's key, while a workflow's task waits for it."""
KEY_AT_HAND_S = 300.0
"""How long a process goes on using a customer's key that it was given. So long after it was destroyed nobody has it any more."""
DRAIN_S = STEP_CALL_S + 1.0
"""What a worker that is stopped gives the steps under way: a deploy burns no try."""
SERVICE_DRAIN_S = 10.0
"""What a service that is stopped gives the requests under way."""
GATEWAY_SILENCE_S = 35.0
"""How long the gateway waits for a service that says nothing."""
INBOX_STREAM_S = 240.0
"""How long a live stream of the inbox lasts; its client comes back, with a token that is as new."""
BREAKER_OPENS_AFTER = 5
"""Failures in a row. A refusal is an answer, and who gives up waiting says nothing of the other side: neither counts."""
RETRIES = 3
"""How often a call of an outside company that fails at once is repeated, within the time of the one call, where the company knows
a repeated request as the same one."""
FIRST_RETRY_S = 0.05
"""How long the first repetition waits; each further one four times as long."""
BREAKER_S = 2.0
"""How long a broken circuit is not tried."""
