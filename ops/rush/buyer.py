"""What does one buyer do until the house is sold out?"""

import random
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from contracts.ids import EventId
from ops.rush.accounts import Account, Accounts
from ops.rush.history import Acknowledged
from ops.rush.plan import BY_ID_SHARE, DECLINED_CARD_SHARE, SEATS_WANTED_MAX, RushPlan
from ops.rush.seat_map import SeatMap
from ops.rush.shop import Answer, RushOver, Shop
from ops.rush.tally import CHECKOUT, RELEASE, RESERVE, Tally

GOOD_CARD = "pm_card_visa"
BAD_CARD = "pm_card_chargeDeclined"

# Somebody in a wheelchair, and whoever comes with them.
PAIR = 2

# When there is nothing left: seats may still come back from those who do not pay.
SOLD_OUT_PAUSE_SECONDS = 1.0


class Buyer:
    """Somebody who wants seats, and after them more."""

    def __init__(
        self,
        plan: RushPlan,
        event_id: EventId,
        *,
        shop: Shop,
        seats: SeatMap,
        accounts: Accounts,
        tally: Tally,
        history: list[Acknowledged],
        chance: random.Random,
    ) -> None:
        self._plan = plan
        self._event_id = str(event_id)
        self._shop = shop
        self._seats = seats
        self._accounts = accounts
        self._tally = tally
        self._history = history
        self._chance = chance
        self._wanted_max = SEATS_WANTED_MAX
        self._needs_wheelchair_place = False

    async def buy(self) -> None:
        """Reserve and pay, again and again, with one account after the other, until the rush is over."""
        account = self._accounts.take()
        try:
            while account is not None and not self._shop.over.is_set():
                if account.seat_count >= SEATS_WANTED_MAX:
                    account = self._accounts.take()
                    self._wanted_max = SEATS_WANTED_MAX
                    continue
                answer = await self._reserve(account)
                if answer.status == 201:
                    await self._decide(answer.body, account)
                elif answer.code in ("ticket_limit_exceeded", "too_many_holds"):
                    account = self._accounts.take()
                else:
                    await self._choose_differently(answer)
        except RushOver:
            return

    async def _reserve(self, account: Account) -> Answer:
        count = self._chance.randint(1, min(self._wanted_max, SEATS_WANTED_MAX - account.seat_count))
        choice = self._choice(count)
        if self._needs_wheelchair_place and account.seat_count + PAIR <= SEATS_WANTED_MAX:
            choice = {"bestAvailable": {"count": PAIR, "accessible": True}}
        body = {"eventId": self._event_id, **choice}
        answer = await self._shop.ask(RESERVE, "POST", "/api/seats/reserve", body, account)
        self._tally.attempt_count += 1
        self._tally.hold_count += answer.status == 201
        return answer

    def _choice(self, count: int) -> dict[str, Any]:
        seat_ids: list[str] = []
        if self._plan.hot_seat_count:
            seat_ids = self._seats.any_of(count, self._chance)
        elif self._chance.random() < BY_ID_SHARE:
            seat_ids = self._seats.neighbours(count, self._chance)
        return {"seatIds": seat_ids} if seat_ids else {"bestAvailable": {"count": count}}

    async def _choose_differently(self, answer: Answer) -> None:
        if answer.status != 409:
            self._tally.errors[answer.code or str(answer.status)] += 1
            await self._shop.pause(SOLD_OUT_PAUSE_SECONDS)
            return
        self._tally.conflict_count += 1
        self._seats.forget(answer.body.get("seatIds", ()))
        if self._wanted_max == 1 and answer.code == "not_enough_seats":
            await self._shop.pause(SOLD_OUT_PAUSE_SECONDS)
        if answer.code == "not_enough_seats" or self._plan.hot_seat_count:
            # Better fewer than none.
            self._wanted_max = max(1, self._wanted_max // 2)
        if answer.code == "not_enough_seats":
            # The others are gone. Somebody comes in a wheelchair, and the next one does not.
            self._needs_wheelchair_place = self._seats.has_kept_seats and not self._needs_wheelchair_place

    async def _decide(self, hold: Mapping[str, Any], account: Account) -> None:
        if self._chance.random() >= self._plan.checkout_rate:
            body = {"eventId": self._event_id, "holdId": hold["holdId"]}
            answer = await self._shop.ask(RELEASE, "DELETE", "/api/seats/release", body, account)
            self._tally.released_count += answer.status == 200
            return
        card = BAD_CARD if self._chance.random() < DECLINED_CARD_SHARE else GOOD_CARD
        answer = await self._pay(hold, card, account)
        if answer.status == 402:
            self._tally.declined_count += 1
            answer = await self._pay(hold, GOOD_CARD, account)
        if answer.status == 201:
            self._rejoice(answer.body, account)
        elif answer.status == 410:
            self._tally.lost_hold_count += 1
        else:
            self._tally.errors[f"checkout: {answer.code or answer.status}"] += 1

    async def _pay(self, hold: Mapping[str, Any], card: str, account: Account) -> Answer:
        body = {"eventId": self._event_id, "holdId": hold["holdId"], "paymentMethod": card}
        return await self._shop.ask(CHECKOUT, "POST", "/api/checkout", body, account)

    def _rejoice(self, order: Mapping[str, Any], account: Account) -> None:
        seat_ids = tuple(UUID(ticket["seat"]["seatId"]) for ticket in order["tickets"])
        account.seat_count += len(seat_ids)
        self._tally.order_count += 1
        self._tally.seat_count += len(seat_ids)
        self._history.append(Acknowledged(UUID(order["orderId"]), account.user_id, seat_ids))
