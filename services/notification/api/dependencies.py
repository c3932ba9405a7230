"""What several of notification's endpoints take."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from chassis.dependencies import from_app
from services.notification.channels import Channel, Sender
from services.notification.links import Links
from services.notification.ports import Directory
from services.notification.protocols.webpush import Subscribing
from services.notification.stream import Streams

Wake = Annotated[asyncio.Event, from_app(asyncio.Event)]
"""Set it, and what is due is sent at once."""
SignedLinks = Annotated[Links, from_app(Links)]
LiveInbox = Annotated[Streams, from_app(Streams)]


@dataclass(frozen=True)
class Outside:
    """Who is asked where people are reached, and how each channel that is set up is sent by: a new connection each time."""

    directory: Directory
    senders: Mapping[Channel, Callable[[], Sender]]
    subscribing: Subscribing | None = None
    """How browsers subscribe to push messages; None: they cannot."""


Others = Annotated[Outside, from_app(Outside)]
