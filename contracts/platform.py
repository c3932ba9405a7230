"""The processes of the platform: one list, for all who start, reach, supply, deploy or check them.

Names are those of hosts. `DATABASE_URL_<NAME>`, `DATABASE_READ_URL_<NAME>`, `<NAME>_URL` and `SERVICE_CLIENT_SECRET_<NAME>` are
made from them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """One kind of process."""

    name: str
    module: str
    """What `python -m` runs."""
    port: int
    """Where it listens if all run on one machine and nothing else is said."""
    has_database: bool = False
    uses_redis: bool = False
    secrets: tuple[str, ...] = ()
    """Environment variables that it needs beside its addresses, and that nobody else may read."""
    calls: tuple[str, ...] = ()
    """Services that it calls with a service token of its own: it proves itself to identity with its client secret."""

    @property
    def identifier(self) -> str:
        """The name where no hyphen may be."""
        return self.name.replace("-", "_")

    @property
    def database_variable(self) -> str:
        return f"DATABASE_URL_{self.identifier.upper()}"

    @property
    def read_database_variable(self) -> str:
        """Of a replica of its database, which it may do without."""
        return f"DATABASE_READ_URL_{self.identifier.upper()}"

    @property
    def servers(self) -> tuple[str, ...]:
        """Environment variables of its own database and of Redis: their addresses have passwords in them."""
        databases = (self.database_variable, self.read_database_variable) if self.has_database else ()
        return (*databases, *(("REDIS_URL",) if self.uses_redis else ()))

    @property
    def database_name(self) -> str:
        return f"{self.identifier}_db"

    @property
    def client_secret(self) -> str:
        """Environment variable of the secret with which it gets its token."""
        return f"SERVICE_CLIENT_SECRET_{self.identifier.upper()}"

    @property
    def needs(self) -> tuple[str, ...]:
        """All secrets that it reads, those in addresses apart. Identity must know everybody's client secret."""
        own = (self.client_secret,) if self.calls else ()
        return (*self.secrets, *own, *(CLIENT_SECRETS if self.name == "identity" else ()))


_CARRIER = ("CARRIER_API_KEY", "CARRIER_WEBHOOK_SECRET")
_PROVIDER = ("PAYMENT_PROVIDER_API_KEY", "PAYMENT_WEBHOOK_SECRET")
_BANK = ("BANK_API_KEY",)
_HISTORIES = ("CUSTOMER_KEYS_MASTER",)
_TWILIO = ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN")
_MESSAGES = (
    "NOTIFICATION_SECRETS",
    "SMTP_USERNAME",
    "SMTP_PASSWORD",
    "EMAIL_WEBHOOK_SECRET",
    "BOUNCE_MAILBOX_URL",
    "VAPID_PRIVATE_KEY",
)
_SIGNING = ("JWT_PRIVATE_KEY", "JWT_PREVIOUS_PUBLIC_KEYS")


def _service(
    name: str, port: int, *, uses_redis: bool = False, secrets: tuple[str, ...] = (), calls: tuple[str, ...] = ()
) -> Process:
    return Process(name, f"services.{name}.app", port, True, uses_redis, secrets, calls)


SERVICES = (
    _service("identity", 8001, secrets=("ADMIN_EMAIL", "ADMIN_PASSWORD", *_SIGNING)),
    _service("catalog", 8002, uses_redis=True),
    _service("order", 8003, secrets=_HISTORIES, calls=("catalog", "shipping")),
    _service("payment", 8004, secrets=(*_PROVIDER, *_BANK)),
    _service("inventory", 8005),
    _service("shipping", 8006, secrets=_CARRIER),
    _service("notification", 8007, secrets=(*_MESSAGES, *_TWILIO), calls=("identity",)),
    _service("analytics", 8008),
)
"""Bounded contexts: each has a database of its own and a public API behind the gateway."""
EDGE = Process("edge", "gateway.app", 8009, uses_redis=True)
WORKER = Process(
    "worker", "worker", 8010, secrets=_HISTORIES, calls=("order", "inventory", "payment", "shipping", "notification")
)
CONSOLE = Process("console", "console.app", 8014, secrets=_HISTORIES, calls=("order",))
"""Staff's login before Temporal's Web UI, and the codec server."""
SIMULATORS = (
    Process("payment-provider", "simulators.stripe", 8011, secrets=_PROVIDER),
    Process("carrier", "simulators.easypost", 8012, secrets=_CARRIER),
    Process("mail-sink", "simulators.mail_sink", 8013, secrets=("EMAIL_WEBHOOK_SECRET",)),
    Process("sms-provider", "simulators.twilio", 8015, secrets=_TWILIO),
    Process("push-service", "simulators.push_service", 8016),
    Process("bank", "simulators.bank", 8017, secrets=_BANK),
)
"""Stand for outside companies on a laptop and in tests."""
GATEWAY_PORT = 8080
"""Of Envoy, which is not started from Python."""
PROCESSES = {process.name: process for process in (*SERVICES, EDGE, WORKER, CONSOLE, *SIMULATORS)}
SERVICE_NAMES = tuple(service.name for service in SERVICES)
CLIENTS = tuple(process for process in PROCESSES.values() if process.calls)
"""Those that identity gives service tokens."""
CLIENT_SECRETS = tuple(client.client_secret for client in CLIENTS)


def local_url(name: str) -> str:
    """Where a process is if all run on one machine and nothing else is said."""
    return f"http://127.0.0.1:{PROCESSES[name].port}"
