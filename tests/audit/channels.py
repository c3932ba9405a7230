"""SMS and push messages of the small platform: a customer with a telephone and a browser, and the providers behind sockets."""

import asyncio
import os
import re
from uuid import UUID

from aiohttp import encode_basic_auth
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from chassis.clients import HttpSession
from chassis.clock import utc_now
from chassis.database import Database
from services.notification import commands
from services.notification.adapters.twilio import TwilioSender, TwilioSettings
from services.notification.adapters.webpush import WebPushSender
from services.notification.channels import Channel
from services.notification.commands import browsers, people
from services.notification.delivery import DeliveryJob
from services.notification.kinds import Group
from services.notification.links import Links
from services.notification.ports import Directory
from services.notification.protocols.twilio import StatusCallback
from services.notification.protocols.webpush import Subscribing, VapidKeys, encoded, new_private_key, point

ACCOUNT, TOKEN = "AC" + "1" * 32, "token"
NUMBER = "+491701234567"


class Channels:
    """Sends by SMS and to browsers. Each raises AssertionError where a provider does not answer as it should."""

    def __init__(
        self, database: Database, http: HttpSession, directory: Directory, links: Links, sms_url: str, push_url: str
    ) -> None:
        settings = TwilioSettings(
            twilio_url=sms_url, twilio_account_sid=ACCOUNT, twilio_auth_token=SecretStr(TOKEN), twilio_from="+15005550006"
        )
        self._database, self._http, self._links, self._sms_url, self._push_url = database, http, links, sms_url, push_url
        self._keys = VapidKeys([new_private_key()])
        # Nothing is sent there: `hear` fetches what Twilio would tell.
        twilio = TwilioSender(http, settings, "http://shop.example/twilio")
        push = WebPushSender(http, http, Subscribing(self._keys, (push_url,)), "mailto:shop@shop.example")
        self._jobs = [DeliveryJob(database, directory, sender, links, asyncio.Event(), attempts=3) for sender in (twilio, push)]

    async def reach(self, person_id: UUID) -> None:
        """The person proves a telephone, allows messages in a browser, and wants to be told of parcels by both."""
        await self._hold_callbacks()
        await people.want_phone(self._database, person_id, NUMBER)
        await self.send()
        texts = await self._sms(f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json")
        code = re.search(r"\d{6}", texts["messages"][0]["body"])
        assert code is not None
        await people.prove_phone(self._database, person_id, code[0], self._links.secret)
        async with self._http.session.post(f"{self._push_url}/_control/subscriptions", json={}) as response:
            endpoint = (await response.json())["endpoint"]
        browser = ec.generate_private_key(ec.SECP256R1()).public_key()
        keys = {"p256dh": encoded(point(browser)), "auth": encoded(os.urandom(16))}
        subscription = {"endpoint": endpoint, "keys": keys, "vapid_key": self._keys.current.public}
        await browsers.subscribe(self._database, person_id, endpoint, subscription)
        await people.choose(
            self._database,
            person_id,
            choices={Group.DELIVERIES: {Channel.EMAIL: True, Channel.SMS: True, Channel.PUSH: True}},
            language=None,
            time_zone="UTC",
            quiet=None,
            seen=None,
        )

    async def send(self) -> None:
        """What is due."""
        for job in self._jobs:
            while await job.send_due():
                pass

    async def hear(self) -> None:
        """What Twilio tells of its messages."""
        for row in (await self._sms("/_control/messages"))["data"]:
            callback = StatusCallback.model_validate({"MessageSid": row["sid"], "MessageStatus": row["status"]})
            if news := callback.news(None, utc_now()):
                await commands.apply_delivery_news(self._database, news)

    async def _hold_callbacks(self) -> None:
        headers = {"Authorization": encode_basic_auth(ACCOUNT, TOKEN)}
        url = f"{self._sms_url}/_control/faults"
        async with self._http.session.post(url, json={"callbacks_held": True}, headers=headers) as response:
            assert response.status == 200

    async def _sms(self, path: str) -> dict[str, list[dict[str, str]]]:
        headers = {"Authorization": encode_basic_auth(ACCOUNT, TOKEN)}
        async with self._http.session.get(f"{self._sms_url}{path}", headers=headers) as response:
            assert response.status == 200
            found: dict[str, list[dict[str, str]]] = await response.json()
            return found
