"""Are the settings those of a sale that somebody could attack or overload?"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import get_args
from urllib.parse import urlsplit

from contracts.production import unfit_for_production
from contracts.settings import PREFIX, BrokerUser, Settings
from ops.doctor.deployment import Deployment, is_here
from ops.doctor.findings import Check, Finding, Findings, note, warning, wrong

SECRET_BITS_MIN = 128  # what nobody will ever try out
PASSWORD_LENGTH_MIN = 16
# A /8 is the largest private network there is; whoever trusts more trusts strangers.
PROXY_PREFIX_MIN = 8
NGINX_READ_SECONDS = 20.0  # proxy_read_timeout in ops/nginx
CONNECTION_URLS = (
    "postgres_url",
    "redis_url",
    "rabbitmq_url",
    "rabbitmq_management_url",
    "smtp_url",
    "payment_api_url",
    "otlp_url",
)
ENCRYPTED_SCHEMES = frozenset({"rediss", "amqps", "https", "smtps", "smtp+starttls", "unix"})
ENCRYPTED_SSLMODES = ("sslmode=require", "sslmode=verify-ca", "sslmode=verify-full")


async def environment(deployment: Deployment) -> Findings:
    """A sale that others can reach runs as production, so that it refuses what everybody knows."""
    settings = deployment.settings
    if deployment.is_production or is_here(urlsplit(settings.public_url).hostname):
        return []
    return [
        wrong(
            f"{settings.public_url} is not this machine, but {PREFIX}ENVIRONMENT is {settings.environment}: demo"
            " passwords and failpoints are accepted",
            f"set {PREFIX}ENVIRONMENT=production in the environment of every process",
        )
    ]


async def demo_values(deployment: Deployment) -> Findings:
    """What everybody knows, or is for tests."""
    unfit = [(name, why) for name, why in unfit_for_production(deployment.settings) if name != "failpoints"]
    if not unfit:
        return []
    if not deployment.is_production:
        return [note(f"{len(unfit)} settings are those of a laptop", "production will refuse each of them")]
    return [wrong(f"{PREFIX}{name.upper()} {why}", f"change {PREFIX}{name.upper()}") for name, why in unfit]


async def failpoints(deployment: Deployment) -> Findings:
    """Crash points kill processes on purpose."""
    if not deployment.settings.failpoints:
        return []
    return [wrong(f"failpoints are armed: {deployment.settings.failpoints}", f"unset {PREFIX}FAILPOINTS, restart")]


async def signing_key(deployment: Deployment) -> Findings:
    """Whoever guesses it prints tickets."""
    found = []
    for name in ("signing_key", "signing_key_before"):
        key = getattr(deployment.settings, name)
        if key and strength_bits(key) < SECRET_BITS_MIN:
            found.append(
                wrong(
                    f"{PREFIX}{name.upper()} is worth {strength_bits(key):.0f} bits; tickets can be forged by whoever"
                    " guesses it",
                    "make one with `openssl rand -base64 48`; the old one goes into"
                    f" {PREFIX}SIGNING_KEY_BEFORE until its tickets are used up",
                )
            )
    return found


async def broker_passwords(deployment: Deployment) -> Findings:
    """One leaked password must not open two doors."""
    if not deployment.is_production:
        return []
    passwords = {user: getattr(deployment.settings, f"rabbitmq_{user}_password") for user in get_args(BrokerUser)}
    often = Counter(passwords.values())
    return [
        warning(
            f"the password of the broker's user {user} is {'short' if often[password] == 1 else 'another one’s, too'}",
            f'rabbitmqctl change_password {user} "$(openssl rand -base64 24)", and the same in'
            f" {PREFIX}RABBITMQ_{user.upper()}_PASSWORD",
        )
        for user, password in passwords.items()
        if len(password) < PASSWORD_LENGTH_MIN or often[password] > 1
    ]


async def one_user_for_all(deployment: Deployment) -> Findings:
    """An address with a user in it gives every process the same rights, and the engine cannot tell who sends a command."""
    if not urlsplit(deployment.settings.rabbitmq_url).username:
        return []
    return [
        warning(
            f"{PREFIX}RABBITMQ_URL names a user: every process has that user's rights, and nobody checks who sent a command",
            f"leave user and password out of {PREFIX}RABBITMQ_URL and set {PREFIX}RABBITMQ_<USER>_PASSWORD",
        )
    ]


async def encryption(deployment: Deployment) -> Findings:
    """What leaves the machine unencrypted can be read by whoever is between."""
    clear = [name for name in CONNECTION_URLS if _travels_in_clear(getattr(deployment.settings, name))]
    if not clear or not deployment.is_production:
        return []
    named = ", ".join(f"{PREFIX}{name.upper()}" for name in clear)
    return [
        warning(
            f"passwords and buyers' names travel unencrypted: {named}",
            "use rediss://, amqps://, https://, smtps:// and ?sslmode=verify-full, or keep these servers in a network that"
            " nobody else reaches",
        )
    ]


async def secure_cookies(deployment: Deployment) -> Findings:
    """Without https the session's cookie is not Secure, and goes over the wire for all to read."""
    public = urlsplit(deployment.settings.public_url)
    if public.scheme == "https" or is_here(public.hostname):
        return []
    return [
        wrong(
            f"{deployment.settings.public_url} is not https: the session's cookie is sent unencrypted",
            f"end TLS at the proxy and set {PREFIX}PUBLIC_URL=https://…",
        )
    ]


async def trusted_proxies(deployment: Deployment) -> Findings:
    """Trust nobody, and all buyers behind the proxy share one rate limit; trust everybody, and nobody has one."""
    networks = deployment.settings.trusted_networks
    wide = [network for network in networks if network.prefixlen < PROXY_PREFIX_MIN]
    if wide:
        return [
            wrong(
                f"{PREFIX}TRUSTED_PROXIES trusts {', '.join(map(str, wide))}: anybody may claim any address, and no limit"
                " per address holds",
                "name the addresses of your own proxies only",
            )
        ]
    if networks or not deployment.is_production:
        return []
    return [
        warning(
            f"{PREFIX}TRUSTED_PROXIES is empty: behind a proxy, all buyers count as one address and share its limits",
            "name the addresses of your proxies, or ignore this if buyers reach the ingress directly",
        )
    ]


async def sale_settings(deployment: Deployment) -> Findings:
    """Values that are allowed and that nobody wants during a real sale."""
    if not deployment.is_production:
        return []
    return list(_unwanted_in_a_sale(deployment.settings))


def _unwanted_in_a_sale(settings: Settings) -> Iterator[Finding]:
    if settings.payment_api_key.startswith(("sk_test_", "rk_test_")):
        yield warning("the payment provider's key is a test key: no money moves", f"set {PREFIX}PAYMENT_API_KEY")
    if settings.rate_limit_multiplier != 1:
        yield warning(
            f"rate limits are multiplied by {settings.rate_limit_multiplier:g}", f"unset {PREFIX}RATE_LIMIT_MULTIPLIER"
        )
    if settings.beacon == "offline":
        yield warning(
            "draws of waiting rooms use our own randomness, which nobody can check",
            f"set {PREFIX}BEACON=drand-quicknet",
        )
    if settings.event_queue_type != "quorum":
        yield wrong("queues of events are classic: they die with their node", f"unset {PREFIX}EVENT_QUEUE_TYPE")


async def timeouts(deployment: Deployment) -> Findings:
    """Each wait ends before the one around it does."""
    return [
        warning(f"{PREFIX}{inner.upper()} is not below {outer}: {why}", f"lower {PREFIX}{inner.upper()}")
        for inner, value, outer, limit, why in _waits(deployment.settings)
        if value >= limit
    ]


def _waits(settings: Settings) -> Iterator[tuple[str, float, str, float, str]]:
    """The inner wait and its seconds, the outer one and its seconds, and what goes wrong when the outer one ends first."""
    statement, checkout = settings.statement_timeout_seconds, settings.checkout_deadline_seconds
    yield (
        *("lock_timeout_seconds", settings.lock_timeout_seconds, f"{PREFIX}STATEMENT_TIMEOUT_SECONDS", statement),
        "a wait for a lock looks like a slow statement",
    )
    yield (
        *("checkout_deadline_seconds", checkout, "the proxy's read timeout of 20 s", NGINX_READ_SECONDS),
        "buyers see 504 instead of 202 and a place to look",
    )
    yield (
        *("redis_timeout_seconds", settings.redis_timeout_seconds),
        *(f"{PREFIX}RESERVE_DEADLINE_SECONDS", settings.reserve_deadline_seconds),
        "a slow Redis uses up the time of a reservation",
    )
    yield (
        *("decline_grace_seconds", settings.decline_grace_seconds, f"{PREFIX}HOLD_CEILING_SECONDS"),
        *(settings.hold_ceiling_seconds, "a second card is never tried in time"),
    )
    yield (
        *(
            "hold_seconds",
            settings.hold_seconds,
            "the longest a hold may live, and a second",
            settings.hold_ceiling_seconds + 1,
        ),
        "holds end before they were promised to",
    )


def strength_bits(secret: str) -> float:
    """How many bits a secret is worth at most: its length times the surprise of each character."""
    shares = [count / len(secret) for count in Counter(secret).values()]
    return len(secret) * sum(share * math.log2(1 / share) for share in shares)


def _travels_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    if not url or is_here(parts.hostname) or parts.scheme in ENCRYPTED_SCHEMES:
        return False
    return not any(mode in parts.query for mode in ENCRYPTED_SSLMODES)


CHECKS = (
    Check("environment", environment),
    Check("demo values", demo_values),
    Check("failpoints", failpoints),
    Check("signing key", signing_key),
    Check("broker passwords", broker_passwords),
    Check("broker user per role", one_user_for_all),
    Check("encryption", encryption),
    Check("secure cookies", secure_cookies),
    Check("trusted proxies", trusted_proxies),
    Check("settings of a sale", sale_settings),
    Check("timeouts", timeouts),
)
