"""What do we ask the payment provider, and what did it say?

Every call that changes something carries a key that the caller stored before, so that asking again can never pay twice.
The provider stores its first answer under the key, a 500 included, for 24 hours: after a 5xx a repeat would only hear
the old 500, so the caller reads the intent instead (https://docs.stripe.com/api/idempotent_requests).
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote

import stripe
from prometheus_client import Histogram
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from consumers.circuit_breaker import CircuitBreaker
from consumers.payments.outcomes import (
    ActionNeeded,
    Authorized,
    Canceled,
    Captured,
    Declined,
    IntentCreated,
    IntentState,
    NoAnswer,
    Outcome,
    ProviderPayment,
    ProviderRefund,
    Refunded,
    Refused,
    Unavailable,
    Unknown,
)
from consumers.payments.transport import PaymentTransport
from contracts.ids import EventId, OrderId
from contracts.money import from_minor_units, to_minor_units
from contracts.settings import Settings
from db.telemetry.traces import span

# Metrics of our earlier calls, sent along with every request and paid for in CPU.
stripe.enable_telemetry = False
# Two lines for every call: a fifth of the stage's CPU, and they say nothing that our own outcomes do not.
logging.getLogger("stripe").setLevel(logging.WARNING)

# The header of an answer that was given before, to another request with the same key.
REPLAYED = "Idempotent-Replayed"

ATTEMPTS_MAX = 3
# All attempts together: long enough for one full timeout and a repeat, short enough for a buyer who waits ten seconds.
PATIENCE_SECONDS = 8.0
BREAKER_SUCCESSES = 2
PAGE = 100
# The bank did not take the money: it is ours again, and owed again.
DEAD_REFUNDS = ("failed", "canceled")

Parameters = Mapping[str, Any]
Thing = Mapping[str, Any]
Method = Literal["get", "post"]


_ABOUT = {"server.address": "payment provider"}
CALL_SECONDS = Histogram(
    "boxoffice_payment_call_seconds",
    "Calls of the payment provider, repeats included, by what came of them",
    ["operation", "outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 8.0),
)


class ListingInterrupted(Exception):
    """The provider stopped answering in the middle of a list; what was read so far is not the whole."""


class PaymentGateway:
    """The provider, for one process. Close it in the end."""

    def __init__(self, settings: Settings, breaker: CircuitBreaker | None = None) -> None:
        self.breaker = breaker or CircuitBreaker(
            name="payment_provider",
            failures=settings.payment_breaker_failures,
            open_seconds=settings.payment_breaker_seconds,
            successes=BREAKER_SUCCESSES,
        )
        self._transport = PaymentTransport(
            connect_seconds=settings.payment_connect_timeout_seconds,
            read_seconds=settings.payment_read_timeout_seconds,
            connections_max=settings.payment_concurrency,
        )
        self._stripe = stripe.StripeClient(
            settings.payment_api_key,
            base_addresses={"api": settings.payment_api_url.rstrip("/")},
            max_network_retries=0,
            http_client=self._transport,
        )

    async def create(
        self, *, order_id: OrderId, event_id: EventId, amount: Decimal, currency: str, key: str
    ) -> IntentCreated | Refused | NoAnswer:
        """Make the intent that will pay this order; moves no money."""
        parameters = {
            "amount": to_minor_units(amount, currency),
            "currency": currency.lower(),
            "capture_method": "manual",
            # Other methods may redirect the buyer and settle days later.
            "payment_method_types": ["card"],
            "metadata": {"order_id": str(order_id), "event_id": str(event_id)},
        }
        said = await self._ask("post", "/v1/payment_intents", parameters, key)
        if isinstance(said, _Answer):
            return IntentCreated(said.thing["id"])
        return said if isinstance(said, Unknown | Unavailable) else Refused(said.code)

    async def confirm(self, intent_id: str, *, payment_method: str, key: str) -> Outcome:
        """Set the amount aside on the buyer's card."""
        said = await self._ask("post", _path(intent_id, "confirm"), {"payment_method": payment_method}, key)
        if isinstance(said, _Answer) and said.is_replayed:
            # What was true when the key was first used; the intent may have been captured or cancelled since.
            return await self.read(intent_id)
        return _outcome(said, holds_when_refused=("requires_capture", "succeeded", "canceled"))

    async def read(self, intent_id: str) -> Outcome:
        """How the intent stands now."""
        return _outcome(await self._ask("get", _path(intent_id), {"expand": ["latest_charge"]}))

    async def capture(self, intent_id: str, *, key: str) -> Outcome:
        """Take the money that was set aside."""
        return _outcome(await self._ask("post", _path(intent_id, "capture"), {}, key))

    async def cancel(self, intent_id: str, *, key: str) -> Outcome:
        """Give back what was set aside; `Canceled` only when the provider says that the intent is dead."""
        return _outcome(await self._ask("post", _path(intent_id, "cancel"), {}, key))

    async def refund(
        self, intent_id: str, *, amount: Decimal, currency: str, key: str, mark: str
    ) -> Refunded | Refused | NoAnswer:
        """Give back so much of what was taken. `mark` is what `list_refunds` knows it by, also when the key is long forgotten.

        An answer that was given before is none: the bank may have sent the money back since. What is true now is listed.
        """
        parameters = {
            "payment_intent": intent_id,
            "amount": to_minor_units(amount, currency),
            "metadata": {"refund_id": mark},
        }
        said = await self._ask("post", "/v1/refunds", parameters, key)
        if isinstance(said, Unknown | Unavailable):
            return said
        if said.is_replayed:
            return Unknown("answered_before", key_is_spent=True)
        if isinstance(said, _Refusal):
            return Refused(said.code)
        # "pending" is on its way to the bank; the provider has booked it.
        status = said.thing["status"]
        return Refused(f"refund_{status}") if status in DEAD_REFUNDS else Refunded()

    async def list_refunds(self, intent_id: str) -> tuple[ProviderRefund, ...] | Refused | NoAnswer:
        """All that was given back of an intent, newest first. Of an intent the provider lists what it has done at once."""
        parameters: dict[str, Any] = {"payment_intent": intent_id, "limit": PAGE}
        found: list[ProviderRefund] = []
        while True:
            said = await self._ask("get", "/v1/refunds", parameters)
            if isinstance(said, _Refusal):
                return Refused(said.code)
            if not isinstance(said, _Answer):
                return said
            found += map(_refund_listed, said.thing["data"])
            if not said.thing["has_more"]:
                return tuple(found)
            parameters["starting_after"] = said.thing["data"][-1]["id"]

    async def find_by_order(self, order_id: OrderId) -> tuple[ProviderPayment, ...] | Refused | NoAnswer:
        """The intents of an order, newest first. The provider's search lags by a minute: none found is no proof."""
        parameters = {"query": f"metadata['order_id']:'{order_id}'", "limit": PAGE, "expand": ["data.latest_charge"]}
        said = await self._ask("get", "/v1/payment_intents/search", parameters)
        if isinstance(said, _Answer):
            return tuple(_listed(intent) for intent in said.thing["data"])
        return Refused(said.code) if isinstance(said, _Refusal) else said

    async def list_between(self, since: datetime, until: datetime) -> AsyncIterator[ProviderPayment]:
        """Every intent created from `since` and before `until`, newest first; raises ListingInterrupted."""
        created = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}
        parameters: dict[str, Any] = {"created": created, "limit": PAGE, "expand": ["data.latest_charge"]}
        more = True
        while more:
            said = await self._ask("get", "/v1/payment_intents", parameters)
            if not isinstance(said, _Answer):
                raise ListingInterrupted(str(said))
            for intent in said.thing["data"]:
                yield _listed(intent)
                parameters["starting_after"] = intent["id"]
            more = said.thing["has_more"]

    async def look_at(self, intent_id: str) -> ProviderPayment | Refused | NoAnswer:
        """All that the provider knows of one intent."""
        said = await self._ask("get", _path(intent_id), {"expand": ["latest_charge"]})
        if isinstance(said, _Answer):
            return _listed(said.thing)
        return Refused(said.code) if isinstance(said, _Refusal) else said

    async def list_refunded_since(self, since: datetime) -> AsyncIterator[str]:
        """The intents of which money was given back since, newest first, one that was twice given twice; raises
        ListingInterrupted."""
        moment = int(since.timestamp())
        parameters: dict[str, Any] = {"created": {"gte": moment}, "limit": PAGE}
        more = True
        while more:
            said = await self._ask("get", "/v1/refunds", parameters)
            if not isinstance(said, _Answer):
                raise ListingInterrupted(str(said))
            for refund in said.thing["data"]:
                if refund["created"] >= moment and refund["payment_intent"]:
                    yield refund["payment_intent"]
                parameters["starting_after"] = refund["id"]
            more = said.thing["has_more"]

    async def close(self) -> None:
        await self._transport.close_async()

    async def _ask(
        self, method: Method, path: str, parameters: Parameters, key: str | None = None
    ) -> "_Answer | _Refusal | NoAnswer":
        """One call, and the time of it."""
        began_at = time.perf_counter()
        with span(f"provider {_operation(method, path)}", kind="client", attributes=_ABOUT):
            said = await self._ask_patiently(method, path, parameters, key)
        CALL_SECONDS.labels(_operation(method, path), _end(said)).observe(time.perf_counter() - began_at)
        return said

    async def _ask_patiently(
        self, method: Method, path: str, parameters: Parameters, key: str | None
    ) -> "_Answer | _Refusal | NoAnswer":
        """Repeated only where the same key makes that safe and an answer is likely."""
        if not self.breaker.allows():
            return Unavailable(self.breaker.retry_after_seconds())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                try:
                    return await self._send(method, path, parameters, key)
                except _PassingSilence as first:
                    return await self._ask_again(first, method, path, parameters, key)
        except _Silence as silence:
            return Unknown(silence.reason, key_is_spent=silence.key_is_spent)
        except TimeoutError:
            self.breaker.failed()
            return Unknown("timeout")

    async def _ask_again(
        self, first: "_PassingSilence", method: Method, path: str, parameters: Parameters, key: str | None
    ) -> "_Answer | _Refusal":
        """The repeats; apart from the first attempt, because Tenacity costs as much CPU as the call itself."""
        async for attempt in _attempts():
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first
                if not self.breaker.allows():
                    # Something was sent before, so this is no Unavailable.
                    raise _Silence(first.reason)
                return await self._send(method, path, parameters, key)
        raise first

    async def _send(self, method: Method, path: str, parameters: Parameters, key: str | None) -> "_Answer | _Refusal":
        try:
            # The raw request spares turning every answer into the library's objects, half of the CPU of a call.
            answer = await self._stripe.raw_request_async(method, path, idempotency_key=key, **parameters)
        except stripe.APIConnectionError as problem:
            self.breaker.failed()
            raise _PassingSilence(problem.user_message or "no answer") from problem
        except stripe.StripeError as problem:
            return self._judge(problem, is_read=method == "get")
        self.breaker.succeeded()
        return _Answer(answer.data, is_replayed=answer.headers.get(REPLAYED) == "true")

    def _judge(self, problem: stripe.StripeError, *, is_read: bool) -> "_Refusal":
        """Is this a definite no? Raises a silence when it is not."""
        status = problem.http_status or 0
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.BAD_REQUEST:
            self.breaker.failed()
            silence = _PassingSilence if is_read else _Silence
            raise silence(f"status_{status}", key_is_spent=_is_replayed(problem)) from problem
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self.breaker.failed()
            raise _PassingSilence("rate_limited") from problem
        self.breaker.succeeded()
        if status == HTTPStatus.CONFLICT:
            raise _PassingSilence(problem.code or "conflict") from problem
        if isinstance(problem, stripe.IdempotencyError):
            # This request was not executed, but another one was under its key: what that one did must be read.
            raise _Silence("key_used_with_other_parameters") from problem
        return _Refusal.read(problem, status)


@dataclass(frozen=True, slots=True)
class _Answer:
    thing: Thing
    is_replayed: bool


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: str
    message: str
    is_decline: bool
    intent: Thing | None
    is_replayed: bool = False

    @classmethod
    def read(cls, problem: stripe.StripeError, status: int) -> "_Refusal":
        body = problem.json_body if isinstance(problem.json_body, dict) else {}
        details = body.get("error", {})
        code = details.get("code") or f"status_{status}"
        if code == "card_declined" and details.get("decline_code") not in (None, "generic_decline"):
            code = details["decline_code"]
        is_decline = details.get("type") == "card_error"
        intent = details.get("payment_intent")
        return cls(code, details.get("message", ""), is_decline, intent, is_replayed=_is_replayed(problem))


def _operation(method: Method, path: str) -> str:
    last = path.rpartition("/")[2]
    if last in ("confirm", "capture", "cancel", "search"):
        return last
    if last == "refunds":
        return "refund" if method == "post" else "list_refunds"
    if last == "payment_intents":
        return "create" if method == "post" else "list"
    return "read"


def _end(said: "_Answer | _Refusal | NoAnswer") -> str:
    if isinstance(said, _Answer):
        return "answered"
    if isinstance(said, _Refusal):
        return "declined" if said.is_decline else "refused"
    return "unknown" if isinstance(said, Unknown) else "unavailable"


def _is_replayed(problem: stripe.StripeError) -> bool:
    return (problem.headers or {}).get(REPLAYED) == "true"


class _Silence(Exception):
    """There was no answer that settles anything."""

    def __init__(self, reason: str, *, key_is_spent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.key_is_spent = key_is_spent


class _PassingSilence(_Silence):
    """Asking again with the same key is safe and may well be answered."""


def _attempts() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type(_PassingSilence),
        stop=stop_after_attempt(ATTEMPTS_MAX),
        # Jitter, so that 48 payments that failed together do not come back together.
        wait=wait_random_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    )


def _outcome(
    said: "_Answer | _Refusal | NoAnswer", *, holds_when_refused: tuple[str, ...] = ("succeeded", "canceled")
) -> Outcome:
    """What it means for the payment. A refusal that shows the intent in such a state tells more than its code."""
    if isinstance(said, Unknown | Unavailable):
        return said
    if isinstance(said, _Answer):
        return _state_of(said.thing)
    if said.is_decline:
        return Declined(said.code, said.message)
    if said.intent is not None and said.intent.get("status") in holds_when_refused:
        return _state_of(said.intent)
    return Refused(said.code)


def _state_of(intent: Thing) -> IntentState | Unknown:
    match intent["status"]:
        case "requires_payment_method" if intent.get("last_payment_error"):
            problem = intent["last_payment_error"]
            bank_said = problem.get("decline_code")
            vague = bank_said in (None, "generic_decline")
            return Declined(problem.get("code", "card_declined") if vague else bank_said, problem.get("message", ""))
        case "requires_payment_method" | "requires_confirmation":
            return IntentCreated(intent["id"])
        case "requires_action":
            return ActionNeeded(intent["client_secret"])
        case "requires_capture":
            return Authorized()
        case "succeeded":
            return Refunded() if _charge_of(intent).get("refunded") else Captured()
        case "canceled":
            return Canceled()
        case other:
            return Unknown(f"status {other}")


def _listed(intent: Thing) -> ProviderPayment:
    currency = intent["currency"].upper()
    return ProviderPayment(
        intent_id=intent["id"],
        order_id=intent["metadata"].get("order_id"),
        amount=from_minor_units(intent["amount"], currency),
        currency=currency,
        captured=from_minor_units(intent["amount_received"], currency),
        refunded=from_minor_units(_refunded_minor(intent), currency),
        state=_state_of(intent),
        created_at=datetime.fromtimestamp(intent["created"], tz=UTC),
    )


def _refund_listed(refund: Thing) -> ProviderRefund:
    return ProviderRefund(
        mark=(refund["metadata"] or {}).get("refund_id"),
        amount=from_minor_units(refund["amount"], refund["currency"].upper()),
        is_dead=refund["status"] in DEAD_REFUNDS,
    )


def _refunded_minor(intent: Thing) -> int:
    # The provider shows a cancelled authorisation as refunded; no money had been taken, so none came back.
    if intent["amount_received"] == 0:
        return 0
    refunded: int = _charge_of(intent).get("amount_refunded", 0)
    return refunded


def _charge_of(intent: Thing) -> Thing:
    """The charge in full where the call asked for it, else nothing."""
    charge = intent.get("latest_charge")
    return charge if isinstance(charge, Mapping) else {}


def _path(intent_id: str, verb: str | None = None) -> str:
    path = f"/v1/payment_intents/{quote(intent_id, safe='')}"
    return path if verb is None else f"{path}/{verb}"
