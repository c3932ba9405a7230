"""Which secrets the platform has, and which process needs which."""

import secrets

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_SECRETS = ("SERVICE_CLIENT_SECRET_WORKER", "SERVICE_CLIENT_SECRET_ORDER")
"""With which each process that calls others gets its tokens from identity."""
OF_PROCESS = {
    "identity": ("ADMIN_EMAIL", "ADMIN_PASSWORD", "JWT_PRIVATE_KEY", "JWT_PREVIOUS_PUBLIC_KEYS", *CLIENT_SECRETS),
    "order": ("SERVICE_CLIENT_SECRET_ORDER",),
    "payment": ("PAYMENT_PROVIDER_API_KEY",),
    "shipping": ("CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET"),
    "notification": ("SMTP_USERNAME", "SMTP_PASSWORD"),
    "worker": ("SERVICE_CLIENT_SECRET_WORKER",),
    "payment-provider": ("PAYMENT_PROVIDER_API_KEY",),
    "carrier": ("CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET"),
}
"""Who needs what, beside the address of the own database. Nobody gets more."""


def token(size: int = 32) -> str:
    """So many random bytes, as text."""
    return secrets.token_urlsafe(size)


def rsa_key() -> str:
    """A new private key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode().strip()
