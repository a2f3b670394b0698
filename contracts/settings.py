"""What can an operator set, in which unit, and why is the default what it is?

Every process reads its environment once, in its `__main__`, into one frozen `Settings`. A field `hold_seconds` is the
variable `BOXOFFICE_HOLD_SECONDS`. A variable that no field knows is an error: a misspelt limit must not pass silently.
"""

import difflib
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from contracts.production import unfit_for_production

PREFIX = "BOXOFFICE_"

# Read by `boxoffice` itself (which stack, on which ports), not by the processes it starts.
STACK_VARIABLES = frozenset(
    {f"{PREFIX}STACK", f"{PREFIX}PORT_BASE", f"{PREFIX}STATE_FOLDER", f"{PREFIX}INSTALL", f"{PREFIX}SCALE"}
)

BrokerUser = Literal["ingress", "worker", "courier", "lifecycle", "operator"]

Network = IPv4Network | IPv6Network

# As browsers write it in Origin: no path, no upper case, and a port only where it is not the scheme's own.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
_OWN_PORT = re.compile(r"http://.*:80|https://.*:443")


class UnusableSettings(Exception):
    """The environment does not make a usable configuration; the message says which variable and what to do."""


class Settings(BaseModel):
    """Everything a process of ours may be told from outside. Spans are in seconds unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    environment: Literal["development", "production"] = Field(
        "development", description="production refuses demo passwords, failpoints and cookies without Secure"
    )

    # Where the servers are.
    postgres_url: str = Field(
        "postgresql://boxoffice@127.0.0.1:8401/boxoffice", description="PostgreSQL 15 or later, one database of our own"
    )
    redis_url: str = Field("redis://127.0.0.1:8402/0", description="Redis 7 or later, noeviction, appendonly everysec")
    rabbitmq_url: str = Field(
        "amqp://127.0.0.1:8403/tk",
        description="RabbitMQ 3.10 or later; without user and password, each role uses its own least-privilege user",
    )
    rabbitmq_ingress_password: str = Field(
        "demo-ingress", description="of the broker's user ingress, who sends commands and hears replies"
    )
    rabbitmq_worker_password: str = Field(
        "demo-worker",
        description="of the broker's user worker, who runs commands, notifications, webhooks and analytics",
    )
    rabbitmq_courier_password: str = Field(
        "demo-courier", description="of the broker's user courier, who runs relay, payments and cleanup"
    )
    rabbitmq_lifecycle_password: str = Field(
        "demo-lifecycle", description="of the broker's user lifecycle, who declares queues"
    )
    rabbitmq_operator_password: str = Field(
        "demo-operator",
        description="of the broker's user operator, who looks and changes nothing: the management UI, `boxoffice doctor`",
    )
    rabbitmq_management_url: str = Field(
        "http://127.0.0.1:8404", description="the management API: queues, policies and alarms, which AMQP does not tell"
    )
    payment_api_url: str = Field(
        "http://127.0.0.1:8408", description="https://api.stripe.com, or the simulator that `boxoffice up` starts"
    )
    payment_api_key: str = Field(
        "sk_test_boxoffice_demo", description="the provider's secret key; sk_test_ keys take no money"
    )
    smtp_url: str = Field(
        "smtp://127.0.0.1:8409",
        description="where the mails go: smtp://, smtp+starttls:// or smtps://, with user and password if need be",
    )
    mail_sender: str = Field(
        "tickets@boxoffice.example",
        description="whom the mails come from; its domain must let our mail server send for it",
    )

    # The ingress.
    http_host: str = Field(
        "127.0.0.1", description="where the ingress listens; only a proxy or a container network should reach it"
    )
    http_port: int = Field(
        8400, ge=1, le=65535, description="where the ingress listens; each instance on a host has its own"
    )
    ingress_workers: int = Field(1, ge=1, le=64, description="Sanic processes; one fills a core")
    public_url: str = Field("http://127.0.0.1:8400", description="as buyers see us; https makes the cookie Secure")
    body_max_bytes: int = Field(
        64 * 1024, ge=1024, description="the largest request body we read; ours are under 1 KiB"
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks of our own proxies, separated by commas (10.0.0.0/8, ::1); only what they say"
        " in X-Forwarded-For is believed; empty: nobody is",
    )
    cors_origins: str = Field(
        "",
        description="origins of other sites whose pages may call us with a session, separated by commas, each as browsers"
        " write it (https://shop.example.com); empty: none",
    )
    seat_views_max: int = Field(200, ge=1, description="events whose live seats one ingress process keeps in memory")
    streams_max: int = Field(
        10_000, ge=1, description="seat streams (SSE and WebSocket) one ingress process serves; more are answered 503"
    )
    streams_per_address_max: int = Field(
        20, ge=1, description="seat streams of one address: a family behind one router, not a farm"
    )
    stream_interval_seconds: float = Field(
        0.1, ge=0, description="seat changes of this long travel as one frame; the first after a pause leaves at once"
    )
    stream_heartbeat_seconds: float = Field(
        15.0,
        gt=0,
        description="what keeps a silent stream open through proxies that cut idle connections at 30 s or more",
    )
    request_timeout_seconds: float = Field(
        15.0, gt=0, description="within this a request must have arrived, from its first byte to its last"
    )
    publish_timeout_seconds: float = Field(
        0.25, gt=0, description="how long a confirm may take before the broker counts as busy (503)"
    )
    reserve_deadline_seconds: float = Field(
        2.0, gt=0, description="a reservation nobody waits for any longer is dropped before it takes a lock"
    )
    checkout_deadline_seconds: float = Field(
        10.0, gt=0, description="how long a checkout is waited for before the answer becomes 202 and a place to poll"
    )
    commands_in_flight_max: int = Field(
        4096, ge=1, description="commands one ingress process may be waiting for; more are answered 503 at once"
    )
    command_batch_max: int = Field(256, ge=1, le=256, description="commands the ingress puts in one message")
    gate_batch_max: int = Field(256, ge=1, description="requests whose session and rate check share one Redis trip")
    password_hash_slots: int = Field(
        1,
        ge=1,
        description="bcrypt costs a quarter of a second of one core: one slot leaves the other core to the sale",
    )
    password_hash_waiting_max: int = Field(
        32, ge=1, description="logins that may wait for a slot; more are answered 503"
    )
    bcrypt_cost: int = Field(12, ge=4, le=16, description="the seed's 12; tests lower it")
    session_seconds: int = Field(
        24 * 3600, ge=60, description="how long somebody stays logged in: from the mail of the morning to the show"
    )
    rate_limit_multiplier: float = Field(
        1.0, gt=0, description="scales every per-user limit; load generators raise it, sales leave it"
    )
    signing_key: str = Field(
        "demo-signing-key-that-everybody-knows",
        min_length=32,
        description="what tickets' codes, and places, passes and receipts of waiting rooms are signed with; the same on every"
        " host, and secret: openssl rand -base64 48",
    )
    signing_key_before: str = Field(
        "",
        description="the signing key used until now: what it signed, tickets that were printed included, stays good as long as"
        " it stands here; empty: none",
    )

    # Waiting rooms.
    room_capacity: int = Field(
        500, ge=1, description="how many people a new waiting room lets shop at once; operators change it for each room"
    )
    room_rate_per_second: float = Field(
        20.0, gt=0, description="how many people a second a new waiting room aims to let in; operators change it too"
    )
    room_gather_seconds: float = Field(
        1800.0, ge=0, description="how long before a sale its waiting room lets people join, for the draw"
    )
    room_exact_max: int = Field(
        50_000, ge=0, description="in a line longer than this, positions far back are reckoned from the shared snapshot"
    )
    challenge_tries_max: int = Field(
        2_000,
        ge=2,
        description="what the usual challenge of a room costs at most: a second of a phone; suspicious ones cost up to 20x",
    )
    challenge_wait_seconds: float = Field(
        60.0, ge=0, description="after this a challenge counts without work, for whoever cannot let a device reckon"
    )
    beacon: Literal["offline", "drand-quicknet"] = Field(
        "offline",
        description="whose randomness decides draws: drand's public beacon, which anybody can check, or (offline) our own,"
        " which nobody can",
    )
    beacon_relays: str = Field(
        "https://api.drand.sh,https://api2.drand.sh,https://drand.cloudflare.com",
        description="where to ask drand, separated by commas; a relay cannot lie, because drand signs what it says",
    )

    # The event commands consumer (the engine).
    event_queue_type: Literal["quorum", "classic"] = Field(
        "quorum", description="quorum survives a node and a crash loop; classic is for comparison"
    )
    single_active_consumer: bool = Field(
        True, description="off only to work around a broker bug (rabbitmq-server #17317: 4.3.0 to 4.3.5)"
    )
    engine_batch_max: int = Field(
        256, ge=1, le=1024, description="commands per transaction; beyond 256 nothing is gained"
    )
    hold_seconds: int = Field(600, ge=1, description="how long seats are set aside; also the TTL of the wait queue")
    waiting_list_offer_seconds: int = Field(
        1800, ge=1, description="how long freed seats are held for whoever of the waiting list is offered them"
    )
    live_holds_max: int = Field(
        4, ge=1, description="live holds one user may have of one event: more is squatting, not choosing"
    )
    hold_ceiling_seconds: int = Field(1200, ge=1, description="no extension takes a hold past this since it was made")
    decline_grace_seconds: int = Field(60, ge=1, description="what a buyer has at least to try another card")
    transfer_days: int = Field(
        7,
        ge=1,
        le=365,
        description="how long a ticket that was offered to somebody may be accepted, until its show begins",
    )
    redis_timeout_seconds: float = Field(
        0.05, gt=0, description="a slower lock filter counts as failing; PostgreSQL decides anyway"
    )
    redis_breaker_failures: int = Field(
        3, ge=1, description="lock filters that fail in a row before PostgreSQL locks alone; the seed's 3"
    )
    redis_breaker_seconds: float = Field(
        30.0, gt=0, description="how long Redis is left alone before one batch tries it again; the seed's 30"
    )
    postgres_pool_max: int = Field(10, ge=2, description="connections per process; the seed's 10")
    statement_timeout_seconds: float = Field(
        5.0, gt=0, description="PostgreSQL ends a statement of ours that runs longer; a batch takes milliseconds"
    )
    lock_timeout_seconds: float = Field(
        2.0, gt=0, description="how long a statement may wait for somebody's lock; then its batch is tried again"
    )
    idle_transaction_timeout_seconds: float = Field(
        5.0, gt=0, description="a frozen consumer loses its locks after this"
    )
    heartbeat_seconds: int = Field(
        10, ge=1, description="AMQP heartbeat: a peer that is gone is noticed after two of them"
    )

    # The stages behind it.
    payment_concurrency: int = Field(
        48, ge=1, description="orders in payment at once per process; the pool bounds the provider's load"
    )
    payment_connect_timeout_seconds: float = Field(
        1.0, gt=0, description="a provider that does not even connect by then is away, and nothing was asked of it"
    )
    payment_read_timeout_seconds: float = Field(
        5.0, gt=0, description="how long an answer may take; none in time is not a no: the payment is looked up later"
    )
    payment_breaker_failures: int = Field(
        5, ge=1, description="calls that fail in a row before checkouts are answered 503 at once; the seed's 5"
    )
    payment_breaker_seconds: float = Field(
        30.0, gt=0, description="how long the provider is left alone before a call tries it again; the seed's 30"
    )
    payment_unknown_seconds: float = Field(
        30.0, gt=0, description="a payment silent for this long is looked up by the reconciler"
    )
    payment_audit_seconds: float = Field(
        3600.0, gt=0, description="how often the provider's whole list is compared with ours"
    )
    stage_prefetch: int = Field(50, ge=1, description="messages a stage holds unfinished")
    relay_batch_max: int = Field(
        200, ge=1, description="messages the relay publishes in one transaction; more hold their locks for longer"
    )
    relay_poll_seconds: float = Field(1.0, gt=0, description="the backstop; LISTEN/NOTIFY wakes the relay sooner")
    sweep_seconds: float = Field(
        30.0, gt=0, description="how often cleanup looks for holds whose expiry message was lost"
    )
    lifecycle_poll_seconds: float = Field(1.0, gt=0, description="how often sales are opened and closed by the clock")
    drain_seconds: float = Field(15.0, gt=0, description="what SIGTERM leaves a process to finish what it took")

    # Running it.
    metrics_host: str = Field("127.0.0.1", description="where consumers listen for Prometheus and for health checks")
    metrics_port: int = Field(
        8411, ge=0, le=65535, description="where consumers serve /metrics, /health, /ready and /live; 0 serves none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="what is less than this is not written; the key events of a sale are info, warning and error",
    )
    otlp_url: str = Field(
        "",
        description="where traces are sent (OpenTelemetry, OTLP over HTTP), such as http://collector:4318; empty: nowhere,"
        " and nothing is traced",
    )
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="the share of requests that are traced; a rush leaves 1 in 100 readable"
    )
    lease_seconds: float = Field(
        6.0, gt=0, description="a consumer silent for this long is gone: its events move to the others"
    )
    stuck_queue_seconds: float = Field(
        10.0, gt=0, description="a queue with messages and nobody who takes them is named as stuck after this"
    )
    verify_seconds: float = Field(
        60.0, gt=0, description="how often the verifier holds each event that is on sale against its ledger"
    )

    failpoints: str = Field("", description="crash points for tests, e.g. engine.before_commit=1*kill")

    @field_validator("trusted_proxies")
    @classmethod
    def _only_networks(cls, listed: str) -> str:
        for one in _listed(listed):
            ip_network(one)  # its ValueError says what is wrong with it
        return listed

    @field_validator("cors_origins")
    @classmethod
    def _only_origins(cls, listed: str) -> str:
        for one in _listed(listed):
            if not _ORIGIN.fullmatch(one) or _OWN_PORT.fullmatch(one):
                raise ValueError(f"{one} is not an origin as browsers write it, such as https://shop.example.com")
        return listed

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """Where our own proxies are."""
        return tuple(ip_network(one) for one in _listed(self.trusted_proxies))

    @property
    def cors_origin_list(self) -> tuple[str, ...]:
        """The origins whose pages may call us."""
        return tuple(_listed(self.cors_origins))

    @property
    def beacon_relay_list(self) -> tuple[str, ...]:
        """The relays of the beacon, in the order in which they are asked."""
        return tuple(_listed(self.beacon_relays))

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """The settings in these environment variables; raises UnusableSettings with what to change."""
        known = {f"{PREFIX}{name.upper()}": name for name in cls.model_fields}
        ours = {
            key: value for key, value in environment.items() if key.startswith(PREFIX) and key not in STACK_VARIABLES
        }
        for key in ours:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise UnusableSettings(f"{key} is not a setting{hint}")
        try:
            settings = cls.model_validate({known[key]: value for key, value in ours.items()})
        except ValidationError as problems:
            first = problems.errors()[0]
            raise UnusableSettings(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from None
        settings.refuse_demo_values_in_production()
        return settings

    def refuse_demo_values_in_production(self) -> None:
        """A published password or an open crash point must not reach a real sale."""
        if self.environment != "production":
            return
        unfit = [f"{PREFIX}{name.upper()} {why}" for name, why in unfit_for_production(self)]
        if unfit:
            raise UnusableSettings("\n".join(unfit))

    def rabbitmq_url_for(self, user: BrokerUser) -> str:
        """The broker's address with that user's name and password; an address that already names a user is kept."""
        parts = urlsplit(self.rabbitmq_url)
        if parts.username:
            return self.rabbitmq_url
        password = getattr(self, f"rabbitmq_{user}_password")
        netloc = f"{user}:{quote(password, safe='')}@{parts.netloc}"
        return urlunsplit((parts.scheme, netloc, parts.path, f"heartbeat={self.heartbeat_seconds}", ""))


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
