"""The parcel carriers, behind EasyPost's API: `python -m simulators.easypost`.

| magic value                                   | what happens                                                            |
|-----------------------------------------------|-------------------------------------------------------------------------|
| postal code starting `00000`, city `Nowhere`  | is not verified, and no carrier offers a rate                           |
| US postal code starting `000`, or none        | the same                                                                |
| country CU, IR, KP, SY, RU or BY              | no carrier offers a rate                                                |
| weight above 1,120 oz; above 5,291 oz (150 kg)| USPS offers no rate; nobody does                                        |
| to another country without `customs_info`     | no carrier offers a rate                                                |
| city `Flakytown`, of either address           | 503 to the first three purchases for a reference, bought at the fourth  |
| city `Lostville`                              | bought, then the connection drops, the first time for a reference       |
| city `Slowville`                              | bought, then answered after switch `slow_ms`, the first time            |
| tracking codes `EZ1000000001` … `EZ7000000007`| trackers that are in each state for ever                                |

Who offers no rate says why in the shipment's `messages`. Nothing here has an idempotency key: two creations are two shipments,
and two purchases of two shipments are two labels that are paid for. `GET /v2/shipments/{reference}` answers the first shipment
with that reference. Of a return (`is_return`) both addresses are those of the way out, as at EasyPost: its parcel goes from
`to_address` to `from_address`.

A label is a parcel once the carrier has scanned it, and what the carrier does with it is for `POST /_control/hand-over` (the
warehouse gives it to the driver) and `POST /_control/advance` (everything after; also customers who hand in what comes back):

| `to`             | from                                          | the tracker's status, detail           |
|------------------|-----------------------------------------------|----------------------------------------|
|                  |                                               | `unknown`: in the answer to a purchase |
|                  |                                               | `pre_transit`: from then on            |
| picked_up        | not scanned yet                               | `in_transit`, `arrived_at_facility`    |
| in_transit       | picked_up, lost                               | `in_transit`, `departed_facility`      |
| out_for_delivery | picked_up, in_transit, lost                   | `out_for_delivery`                     |
| delivered        | picked_up, in_transit, out_for_delivery, lost | `delivered`, `arrived_at_destination`  |
| lost             | picked_up, in_transit, out_for_delivery       | `failure`, `lost`                      |
| returned         | picked_up, in_transit, out_for_delivery, lost | `return_to_sender`, `return`           |

Bodies name parcels by `references` or `tracking_codes`, or say `all`: every one under way (with picked_up: every label that is
neither for a return nor given back). A lost parcel turns up only if it is named. A reference with several labels means the one
that was scanned, else the first that is not given back. A label that was refunded is carried all the same if it is scanned.

A refund is `submitted`, and decided after switch `refund_ms`: `refunded`, with event `refund.successful`; or, without any event,
`rejected`, because the parcel was scanned meanwhile, the label is too old (USPS 30 days, others 90), or switch `reject_refunds`
is on. A label that was scanned before is refused at once: 422 `SHIPMENT.REFUND.UNAVAILABLE`. Who was rejected may ask again.

Our own books: `GET /_control/ledger` (totals), `/_control/parcels` (each label), `/_control/entries` (append-only).
`POST /_control/clock` with `ahead_seconds` moves the time of the carriers ahead, until they are started anew;
`/_control/webhooks` tells what waits. Lists of ours take `limit` and `cursor`, and answer `data` and `next_cursor`.

Environment: PORT, SIMULATOR_DATA_DIR, CARRIER_API_KEY, HOST (127.0.0.1).
CARRIER_WEBHOOK_URL, CARRIER_WEBHOOK_SECRET: one webhook, as if it had been registered; of several secrets, separated by commas,
the first one signs.
CARRIER_AUTO_SCAN_SECONDS: scan a label that long after its purchase; without it, only what is handed over.
CARRIER_AUTO_DELIVER_SECONDS: deliver that long after the first scan; without it parcels move only on demand.
"""
