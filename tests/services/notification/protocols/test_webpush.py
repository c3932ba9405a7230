"""Web push: encryption as RFC 8291 has it, our signature, and where nothing may be sent."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from services.notification.protocols.webpush import (
    CLAIM_S,
    MOST_PLAIN_BYTES,
    Endpoint,
    Subscription,
    SubscriptionKeys,
    VapidKey,
    VapidKeys,
    decoded,
    encoded,
    encrypt,
    new_private_key,
    payload,
    point,
)
from simulators.push_service.encryption import decrypt

# RFC 8291, appendix A.
PLAINTEXT = b"When I grow up, I want to be a watermelon"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
RECEIVER = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
KEYS = SubscriptionKeys(
    p256dh="BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    auth="BTBZMqHH6r4Tts7J_aSIgg",
)
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
CIPHERTEXT = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6"
    "cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(decoded(text)), ec.SECP256R1())


def test_encryption_is_that_of_the_standards_example() -> None:
    assert encoded(encrypt(PLAINTEXT, KEYS, private=private(SENDER), salt=decoded(SALT))) == CIPHERTEXT
    assert decrypt(decoded(CIPHERTEXT), private(RECEIVER), decoded(KEYS.auth)) == PLAINTEXT


@given(some.binary(max_size=MOST_PLAIN_BYTES))
def test_the_browser_reads_what_was_encrypted_for_it(content: bytes) -> None:
    key = private(RECEIVER)
    keys = SubscriptionKeys(p256dh=encoded(point(key.public_key())), auth=KEYS.auth)
    body = encrypt(content, keys)
    assert len(body) == len(content) + 103 <= 4096
    assert decrypt(body, key, decoded(keys.auth)) == content
    assert body != encrypt(content, keys)


def test_what_is_too_long_is_not_encrypted() -> None:
    with pytest.raises(ValueError, match="too long"):
        encrypt(bytes(MOST_PLAIN_BYTES + 1), KEYS)


def test_a_push_service_can_check_who_sends() -> None:
    key = VapidKey(new_private_key())
    scheme, _, parameters = key.authorization("https://push.example", "mailto:shop@shop.example", now=1_000_000_000).partition(
        " "
    )
    named = dict(part.strip().split("=", 1) for part in parameters.split(","))
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decoded(named["k"]))
    options = {"verify_exp": False}
    claims = jwt.decode(named["t"], public, ["ES256"], audience="https://push.example", options=options)  # type: ignore[arg-type]
    assert scheme == "vapid"
    assert named["k"] == key.public
    assert claims == {"aud": "https://push.example", "exp": 1_000_000_000 + CLAIM_S, "sub": "mailto:shop@shop.example"}


def test_subscriptions_keep_the_key_that_they_were_made_with() -> None:
    old, new = new_private_key(), new_private_key()
    keys = VapidKeys([new, old])
    assert keys.current.public == VapidKey(new).public
    assert keys.of(VapidKey(old).public) is not None
    assert keys.of(None) is keys.current
    assert keys.of(VapidKey(new_private_key()).public) is None
    for wrong in ([], [""], ["abc"], [encoded(bytes(32))], [encoded(b"\xff" * 32)], ["ä"]):
        with pytest.raises(ValueError, match=r"."):
            VapidKeys(wrong)


@pytest.mark.parametrize(
    "url",
    [
        "https://fcm.googleapis.com/fcm/send/abc:def",
        "https://updates.push.services.mozilla.com/wpush/v2/gAAA",
        "https://web.push.apple.com/QGuI",
        "https://wns2-par02p.notify.windows.com:443/w/?token=BQYAAA%3d",
        "https://8.8.8.8/push",
    ],
)
def test_push_services_are_reached(url: str) -> None:
    endpoint = Endpoint.of(url)
    assert not endpoint.is_listed
    assert endpoint.origin + endpoint.path == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "push",
        "http://fcm.googleapis.com/x",
        "ftp://fcm.googleapis.com/x",
        "file:///etc/passwd",
        "https:///x",
        "https://user:pass@fcm.googleapis.com/x",
        "https://fcm.googleapis.com@127.0.0.1/x",
        "https://127.0.0.1/x",
        "https://10.1.2.3/x",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/x",
        "https://0.0.0.0/x",
        "https://[::1]/x",
        "https://[fd00::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://localhost/x",
        "https://postgres/x",
        "https://postgres.infrastructure.svc/x",
        "https://printer.local/x",
        "https://metadata.google.internal/x",
        "https://fcm.googleapis.com:8443/x",
        "https://fcm.googleapis.com:99999/x",
        "https://fcm.googleapis.com\\@127.0.0.1/x",
        "https://[::1/x",
    ],
)
def test_nothing_is_sent_into_our_own_network(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|not an address"):
        Endpoint.of(url)


def test_what_the_operator_lists_is_reached_wherever_it_is() -> None:
    listed = ["http://127.0.0.1:8016/"]
    endpoint = Endpoint.of("http://127.0.0.1:8016/push/abc?x=1", listed)
    assert (endpoint.origin, endpoint.path, endpoint.is_listed) == ("http://127.0.0.1:8016", "/push/abc?x=1", True)
    for other in ("http://127.0.0.1:80160/x", "http://127.0.0.1:8016.evil.example/x", "http://127.0.0.1:8016@evil.example/x"):
        with pytest.raises(ValueError, match=r"must|not an address"):
            Endpoint.of(other, listed)


def test_a_browsers_subscription() -> None:
    given = {"endpoint": "https://push.example/1", "expirationTime": None, "keys": KEYS.model_dump()}
    assert Subscription.model_validate(given).keys == KEYS
    for wrong in ("", "AAAA", KEYS.p256dh[:-1] + "é", KEYS.auth, encoded(b"\x04" + bytes(64)), encoded(b"\x04" * 66)):
        with pytest.raises(ValidationError):
            SubscriptionKeys(p256dh=wrong, auth=KEYS.auth)
    with pytest.raises(ValidationError):
        SubscriptionKeys(p256dh=KEYS.p256dh, auth="AAAA")


@given(some.text(max_size=200), some.text(max_size=6000))
def test_a_message_always_fits(title: str, body: str) -> None:
    written = payload(message_id="0" * 36, title=title, body=body, url="https://shop.example/orders/1")
    assert len(written) <= MOST_PLAIN_BYTES
    shown = json.loads(written)
    assert shown["title"] == title
    assert shown["body"] == body or (shown["body"].endswith("…") and body.startswith(shown["body"][:-1]))
