"""Is the checkout protocol sound, and would the model notice if it were not?

One worker is enough to catch every broken variant: what it sent before a crash is still under way and competes with
what it does next. Two workers, and their states by the million, are for `python -m tests.model.checkout_model`.
"""

from typing import get_args

import pytest

from tests.model.checkout_model import (
    CHARGED_WITHOUT_ORDER,
    OVERSELL,
    PROTOCOL,
    VARIANTS,
    Order,
    Payment,
    Verdict,
    check,
    explore,
    next_steps,
)


def test_the_protocol_never_oversells_never_charges_without_order_and_always_can_end_well() -> None:
    verdict = check(PROTOCOL)
    assert verdict.is_sound, f"The checkout protocol is broken. {verdict}"


def test_the_fence_alone_protects_the_seat_when_the_reaper_takes_paying_holds() -> None:
    verdict = check(VARIANTS["reap_paying"])
    assert verdict.is_sound, f"The fence of T3 no longer protects a reaped seat. {verdict}"


def test_sparing_paying_holds_alone_protects_the_seat_when_the_fence_is_missing() -> None:
    verdict = check(VARIANTS["no_fence"])
    assert verdict.is_sound, f"Sparing paying holds no longer protects their seats. {verdict}"


def test_without_both_guards_the_seat_is_sold_twice() -> None:
    verdict = check(VARIANTS["reap_paying+no_fence"])
    assert verdict.broken_promise == OVERSELL, unnoticed("a reaper and a T3 that both ignore the other", verdict)
    assert len(verdict.trace) == 11
    assert "rival buys the seat" in verdict.trace
    assert verdict.trace[-1] == "worker 0 confirms the order (T3)"


def test_capturing_automatically_charges_before_there_is_an_order() -> None:
    verdict = check(VARIANTS["autocapture"])
    assert verdict.broken_promise == CHARGED_WITHOUT_ORDER, unnoticed("charging on confirm", verdict)
    assert len(verdict.trace) == 7


@pytest.mark.parametrize("variant", ["timeout_is_failure", "release_on_timeout"])
def test_taking_a_timeout_for_a_no_strands_the_payment(variant: str) -> None:
    verdict = check(VARIANTS[variant])
    assert verdict.is_safe, f"A dead end was expected, not worse. {verdict}"
    assert verdict.dead_end_count > 0, unnoticed(variant, verdict)
    assert verdict.last_state is not None
    assert verdict.last_state.payment == "created"


def test_a_verdict_says_in_a_sentence_what_broke_and_how() -> None:
    sentence, *steps = str(check(VARIANTS["autocapture"])).splitlines()
    assert sentence == f"{CHARGED_WITHOUT_ORDER}, after 7 steps at the soonest:"
    assert steps[0].strip() == "1. buyer checks out"
    assert steps[6].strip() == "7. provider handles confirm (captured), answer is lost"


def test_the_search_reaches_every_status_and_every_kind_of_trouble() -> None:
    # A model that cannot get into trouble is safe for the wrong reason.
    search = explore(PROTOCOL)
    assert search.first_broken() is None
    happened = {what for state in search.states for what, _ in next_steps(state, PROTOCOL)}

    assert {state.order for state in search.states} == set(get_args(Order))
    assert {state.payment for state in search.states} == set(get_args(Payment))
    assert happened >= {
        "worker 0 crashes",
        "network loses confirm",
        "provider handles capture (captured), answer is lost",
        "provider handles confirm (canceled), answer is lost",
        "authorisation expires",
        "rival buys the seat",
        "organiser cancels, order is refunded",
        "worker 0 cancels the order (T4)",
        "worker 0 cannot capture any more, cancels the order (T6)",
        "worker 0 closes the refund (T7)",
        "worker 0 gives up on the payment",
    }


def unnoticed(flaw: str, verdict: Verdict) -> str:
    return f"The model no longer notices {flaw}, so it proves nothing about the protocol. It found: {verdict}"
