"""A messenger of text messages that speaks Twilio's API, version 2010-04-01: `python -m simulators.twilio`.

`POST /2010-04-01/Accounts/{Sid}/Messages.json` takes a message, `GET` of the same and `GET …/Messages/{Sid}.json` show them,
`GET /2010-04-01/Accounts/{Sid}.json` the account. What becomes of a message is told to its StatusCallback, signed. Statuses
follow each other every `step_ms`. Some numbers have a fate, the first ones as at Twilio itself:

| To             | what happens                                                             |
|----------------|--------------------------------------------------------------------------|
| +15005550001   | 400, 21211: no telephone number                                          |
| +15005550002   | 400, 21612: there is no way to it                                        |
| +15005550003   | 400, 21408: a country that the account may not send to                   |
| +15005550004   | 400, 21610: its reader has answered STOP                                 |
| +15005550009   | 400, 21614: not a mobile number                                          |
| +15005550010   | undelivered, 30003: switched off                                         |
| +15005550011   | undelivered, 30005: nobody has this number                               |
| +15005550012   | undelivered, 30007: taken for advertising                                |
| +15005550013   | sent, and never heard of again                                           |
| +15005550014   | failed, 21610: that its reader has answered STOP is found out later      |
| +15005550015   | taken, but the answer takes `slow_ms`                                    |
| +15005550016   | taken, and the answer is lost                                            |
| any other      | queued, sent, delivered                                                  |

Sent from +15005550001: 21212; from +15005550007, 21606: not the account's; from +15005550008, 21611: its queue is full.

`POST /_control/opt-outs` with a `number` is its reader who answers STOP, `DELETE` of the same START. It is told to
TWILIO_INBOUND_URL, if that is set, as a message that came in.
`GET /_control/messages` is its ledger: what became of each message, and which StatusCallback it came with.
`POST /_control/messages/{Sid}/status` with a `status` and an `error_code` decides at once what becomes of a message.
Environment: PORT, SIMULATOR_DATA_DIR, TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, TWILIO_INBOUND_URL, HOST (127.0.0.1). Of several
tokens with commas between them all are taken, and the first one signs.
"""
