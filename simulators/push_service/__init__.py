"""A push service of browsers, as RFC 8030 and RFC 8292 describe it: `python -m simulators.push_service`.

`POST /push/{token}` takes a message for the browser with this subscription. As the real ones, it asks for a TTL, for an
encrypted body of at most 4096 bytes, and for the signature of the application server whose key the subscription was made with.
Nobody fetches the messages: they stay in its ledger, encrypted.

What a browser and an operator do there:

| `/_control/…`                           | what happens                                                                |
|-----------------------------------------|-----------------------------------------------------------------------------|
| `POST subscriptions`                    | a subscription, tied to the public key `vapid_key` if one is given          |
| `POST subscriptions/{token}/gone`       | its browser has given it up: 410 from now on                                |
| `GET messages?token=…`                  | what came for it, the bodies in base64url                                   |

Environment: PORT, SIMULATOR_DATA_DIR, HOST (127.0.0.1).
"""
