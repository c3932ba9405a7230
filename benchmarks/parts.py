"""The parts of the benchmark and how each is made. `benchmarks.run` runs them, `benchmarks.page` tells of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """`how` is told above its figures."""

    name: str
    title: str
    how: str
    by_default: bool = True


PARTS = (
    Part(
        "start",
        "Start and memory",
        """A platform in an empty directory, from nothing to all processes ready: databases are made and migrated, topics
and signing keys created. Each turn is a new one. Memory is the sum of all processes' proportional set sizes,
taken once on the platform of the next parts, when catalogue and stock are loaded.""",
    ),
    Part(
        "throughput",
        "Orders against no-op workflows",
        """Real baskets as orders at the gateway, 16 at a time, each confirmed: stock reserved, card charged, parcel
booked, confirmation queued. In turn with them run workflows of four activities that do nothing, 16 at a time,
on the same Temporal server, with one plain worker (the SDK's defaults). CPU is user and system time of all
processes of the platform and of the client, until all events have had their effect; for the no-op workflows
that of the Temporal server and of the one process that is client and worker. Event lag is the analytics
consumer's own histogram.""",
    ),
    Part(
        "alone",
        "One order at a time",
        """`POST /api/v1/orders` one after the other, in turn with update-with-start of a workflow of four local activities
that do nothing.""",
    ),
    Part(
        "hot",
        "One product that everybody wants",
        """64 buyers reserve one unit each of the same product, again and again, at the inventory service's own endpoint;
in turn with pgbench, 64 clients, `update … set n = n + 1 where id = 1`, on the same server.""",
    ),
    Part(
        "replicas",
        "A second worker",
        """Orders 16 at a time with one worker process, in turn with two. Where one worker and what it calls keep all cores
busy, a second one cannot help.""",
    ),
    Part(
        "gateway_anonymous",
        "Reads through the gateway, without a token",
        """One product, 16 connections: asked of the catalogue itself, through an Envoy that has nothing but the route, and
through the gateway, in turn.""",
    ),
    Part("gateway_customer", "Reads through the gateway, as a customer", "The same with a customer's access token."),
    Part(
        "codec",
        "Encrypted histories",
        """Orders 16 at a time with an order service and a worker that encrypt what they write into histories, in turn with the
same in clear ([ADR 28](adr/0028-one-key-a-customer.md)); all start anew for each turn. First orders of eight
customers, whose keys are at hand; then one order each of customers who have just registered, for whom a key
has to be made, kept, and asked for by the worker. CPU is that of all processes and the client.""",
    ),
    Part(
        "cost",
        "What an order leaves behind",
        """Orders 16 at a time while the databases count statements (pg_stat_statements) and the worker its steps (the
metrics of Temporal's SDK); what the idle platform does in the same time is taken off. Histories are read back
through Temporal's client, records through a consumer of every topic.""",
    ),
    Part(
        "events",
        "Events per second",
        """Events of orders that were created and then confirmed are put into the order service's outbox in one commit. One
relay publishes them, one analytics consumer applies them; the clock stops when its inbox has them all. Nothing
else runs.""",
    ),
    Part(
        "growth",
        "Many orders stored",
        """Two platforms side by side take turns: one whose databases hold few orders, one whose databases hold many. The
stored ones are copies of real orders that were placed and delivered, with ids of their own and times spread
over a year; what is kept for a time only (outbox, inbox) is there for two days. Temporal and the simulators
hold the same on both.""",
        by_default=False,
    ),
    Part(
        "sandbox",
        "The workflow sandbox",
        """Orders 16 at a time with a worker in the SDK's workflow sandbox, in turn with the platform's own worker, which
runs without ([ADR 10](adr/0010-the-sandbox-is-for-tests.md)).""",
        by_default=False,
    ),
)
NAMES = tuple(part.name for part in PARTS)
DEFAULT = tuple(part.name for part in PARTS if part.by_default)
