"""May this ticket pass to somebody else, and does the old code die with it?"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from consumers.event_commands.handlers import decide
from consumers.rules.after_sale import Ticket, Transfer
from consumers.rules.offers import end_open_offers
from consumers.rules.sale import Sale
from contracts.commands import AnyCommand
from contracts.ids import TransferId, UserId
from contracts.rejections import RejectionCode
from contracts.replies import Done, Rejected, TransferAccepted, TransferEnded, TransferOffered
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from contracts.ticket_codes import read_code, ticket_code
from contracts.transfer_tokens import TOKEN_LENGTH, is_transfer_token, transfer_token
from tests.builders import a_command_id, a_user, cancel_payment
from tests.sale_on_paper import NOW, a_completed_order, a_sale, the_time_is
from tests.ticket_offers import BOB, accept, keep, offer, resell, transfers_over, turn_down

WEEK = timedelta(days=7)


def a_ticket(sale: Sale, owner: UserId | None = None) -> Ticket:
    """The first of two tickets that somebody has bought."""
    order = a_completed_order(sale, owner)
    return sale.tickets_of(order.id)[0]


def an_offer(sale: Sale, ticket: Ticket) -> Transfer:
    """The ticket, offered to Bob; what was said so far is forgotten."""
    command = offer(sale.terms.event_id, ticket.user_id, ticket.id)
    assert isinstance(decide(sale, command), TransferOffered)
    sale.outgoing = type(sale.outgoing)()
    return sale.transfers[TransferId(command.command_id)]


def told(sale: Sale) -> list[tuple[str, UserId | None]]:
    """Who is told what."""
    return [(notice.kind, notice.user_id) for notice in sale.outgoing.notices]


# ---- offering


def test_an_offer_stands_for_a_week_and_the_address_is_told() -> None:
    sale = a_sale()
    sale.terms = replace(sale.terms, event_at=NOW + 2 * WEEK)
    ticket = a_ticket(sale)
    sale.outgoing = type(sale.outgoing)()
    command = offer(sale.terms.event_id, ticket.user_id, ticket.id, to="Bob@Example.org")
    reply = decide(sale, command)
    assert reply == TransferOffered(
        transfer_id=TransferId(command.command_id), ticket_id=ticket.id, to_email=BOB, expires_at=NOW + WEEK
    )
    (notice,) = sale.outgoing.notices
    assert (notice.kind, notice.user_id, notice.subject_id) == ("transfer_offered", None, command.command_id)
    assert (ticket.version, ticket.is_valid) == (0, True)


def test_no_offer_outlasts_the_beginning_of_the_show() -> None:
    sale = a_sale()
    assert an_offer(sale, a_ticket(sale)).expires_at == sale.terms.event_at < NOW + WEEK


def test_an_offer_asked_for_twice_is_one_offer() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    command = offer(sale.terms.event_id, ticket.user_id, ticket.id)
    assert decide(sale, command) == decide(sale, command)
    assert len(sale.transfers) == 1


def _somebody_elses(sale: Sale, ticket: Ticket) -> None:
    ticket.user_id = a_user()


def _refunded(sale: Sale, ticket: Ticket) -> None:
    sale.end_ticket(ticket, "refunded")


def _being_refunded(sale: Sale, ticket: Ticket) -> None:
    ticket.refund_id = a_command_id()  # type: ignore[assignment]


def _used(sale: Sale, ticket: Ticket) -> None:
    ticket.checked_in_at = NOW


def _offered(sale: Sale, ticket: Ticket) -> None:
    an_offer(sale, ticket)


def _on_sale_again(sale: Sale, ticket: Ticket) -> None:
    decide(sale, resell(sale.terms.event_id, ticket.user_id, ticket.id))


def _not_transferable(sale: Sale, ticket: Ticket) -> None:
    sale.terms = replace(sale.terms, transfers=False)


def _begun(sale: Sale, ticket: Ticket) -> None:
    the_time_is(sale, sale.terms.event_at)


def _cancelled(sale: Sale, ticket: Ticket) -> None:
    sale.terms = replace(sale.terms, cancelled=True)


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_somebody_elses, RejectionCode.TICKET_UNKNOWN),
        (_refunded, RejectionCode.TICKET_NOT_VALID),
        (_being_refunded, RejectionCode.TICKET_NOT_VALID),
        (_used, RejectionCode.TICKET_CHECKED_IN),
        (_offered, RejectionCode.TICKET_ON_OFFER),
        (_on_sale_again, RejectionCode.TICKET_ON_OFFER),
        (_not_transferable, RejectionCode.TRANSFERS_CLOSED),
        (_begun, RejectionCode.TRANSFERS_CLOSED),
        (_cancelled, RejectionCode.TRANSFERS_CLOSED),
    ],
)
def test_such_a_ticket_cannot_be_offered(state: Callable[[Sale, Ticket], None], code: RejectionCode) -> None:
    sale, owner = a_sale(), a_user()
    ticket = a_ticket(sale, owner)
    state(sale, ticket)
    before = len(sale.transfers)
    assert decide(sale, offer(sale.terms.event_id, owner, ticket.id)) == Rejected(code=code)
    assert len(sale.transfers) == before


def test_a_ticket_that_is_not_there_is_unknown() -> None:
    sale = a_sale()
    reply = decide(sale, offer(sale.terms.event_id, a_user(), a_command_id()))
    assert reply == Rejected(code=RejectionCode.TICKET_UNKNOWN)


def test_an_offer_that_has_run_out_stands_in_nobodys_way() -> None:
    sale = a_sale()
    sale.terms = replace(sale.terms, event_at=NOW + 3 * WEEK)
    ticket = a_ticket(sale)
    first = an_offer(sale, ticket)
    the_time_is(sale, first.expires_at)
    second = decide(sale, offer(sale.terms.event_id, ticket.user_id, ticket.id))
    assert isinstance(second, TransferOffered)
    assert first.status == "expired"
    assert told(sale) == [("transfer_expired", ticket.user_id), ("transfer_offered", None)]


# ---- accepting


def test_whoever_accepts_has_the_ticket_and_the_old_code_is_another_version() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    owner, bob, keys = ticket.user_id, a_user(), SigningKeys.of(Settings())
    transfer = an_offer(sale, ticket)
    old = read_code(keys, ticket_code(keys, event_id=sale.terms.event_id, ticket_id=ticket.id, version=ticket.version))
    reply = decide(sale, accept(sale.terms.event_id, bob, transfer.id))
    assert isinstance(reply, TransferAccepted)
    assert (reply.ticket.ticket_id, reply.ticket.seat.seat_id) == (ticket.id, ticket.seat_id)
    assert (ticket.user_id, ticket.bought_by) == (bob, owner)
    # What the door compares. The ticket itself stays valid, so without a new version the old code would still let him in.
    assert old is not None
    assert old.version != ticket.version
    assert ticket.is_valid
    assert (transfer.status, transfer.to_user_id) == ("accepted", bob)
    assert told(sale) == [("transfer_accepted", owner)]


def test_ten_who_accept_one_after_the_other_are_one() -> None:
    sale = a_sale()
    transfer = an_offer(sale, a_ticket(sale))
    replies = [decide(sale, accept(sale.terms.event_id, a_user(), transfer.id)) for _ in range(10)]
    assert sum(isinstance(reply, TransferAccepted) for reply in replies) == 1
    assert replies.count(Rejected(code=RejectionCode.TRANSFER_ENDED)) == 9


def test_accepting_again_under_the_same_id_is_answered_the_same() -> None:
    sale = a_sale()
    command = accept(sale.terms.event_id, a_user(), an_offer(sale, a_ticket(sale)).id)
    assert decide(sale, command) == decide(sale, command)


def test_its_owner_does_not_accept_his_own_offer() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    for step in (accept, turn_down):
        reply = decide(sale, step(sale.terms.event_id, ticket.user_id, transfer.id))
        assert reply == Rejected(code=RejectionCode.TRANSFER_UNKNOWN)


def _over(sale: Sale, ticket: Ticket) -> None:
    (transfer,) = sale.transfers.values()
    the_time_is(sale, transfer.expires_at)


def _another_version(sale: Sale, ticket: Ticket) -> None:
    ticket.version += 1


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_over, RejectionCode.TRANSFER_ENDED),
        (_refunded, RejectionCode.TRANSFER_ENDED),
        (_used, RejectionCode.TRANSFER_ENDED),
        (_another_version, RejectionCode.TRANSFER_ENDED),
        (_not_transferable, RejectionCode.TRANSFERS_CLOSED),
        (_cancelled, RejectionCode.TRANSFERS_CLOSED),
    ],
)
def test_what_is_no_longer_as_it_was_offered_is_not_accepted(
    state: Callable[[Sale, Ticket], None], code: RejectionCode
) -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    owner, transfer = ticket.user_id, an_offer(sale, ticket)
    state(sale, ticket)
    assert decide(sale, accept(sale.terms.event_id, a_user(), transfer.id)) == Rejected(code=code)
    assert (ticket.user_id, transfer.to_user_id) == (owner, None)


@pytest.mark.parametrize("step", [accept, turn_down, keep])
def test_an_offer_that_is_not_there_is_unknown(step: Callable[..., AnyCommand]) -> None:
    sale = a_sale()
    reply = decide(sale, step(sale.terms.event_id, a_user(), a_command_id()))
    assert reply == Rejected(code=RejectionCode.TRANSFER_UNKNOWN)


def test_nobody_takes_more_than_anybody_may_have() -> None:
    sale, bob = a_sale(ticket_limit=2), a_user()
    transfer = an_offer(sale, a_ticket(sale))
    sale.seat_counts[bob] = 2
    reply = decide(sale, accept(sale.terms.event_id, bob, transfer.id))
    assert reply == Rejected(code=RejectionCode.TICKET_LIMIT_EXCEEDED)
    sale.seat_counts[bob] = 1
    assert isinstance(decide(sale, accept(sale.terms.event_id, bob, transfer.id)), TransferAccepted)
    assert sale.seat_count_of(bob) == 2


def test_whoever_bought_it_may_have_it_back_though_it_counts_already() -> None:
    sale, ann, bob = a_sale(ticket_limit=2), a_user(), a_user()
    ticket = a_ticket(sale, ann)
    decide(sale, accept(sale.terms.event_id, bob, an_offer(sale, ticket).id))
    sale.seat_counts |= {ann: 2, bob: 1}
    assert isinstance(decide(sale, accept(sale.terms.event_id, ann, an_offer(sale, ticket).id)), TransferAccepted)
    assert (ticket.user_id, ticket.version, sale.seat_count_of(ann), sale.seat_count_of(bob)) == (ann, 2, 2, 0)


# ---- not accepting


def test_whoever_declines_leaves_the_ticket_where_it_is() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    reply = decide(sale, turn_down(sale.terms.event_id, a_user(), transfer.id))
    assert reply == TransferEnded(transfer_id=transfer.id, status="declined")
    assert told(sale) == [("transfer_declined", ticket.user_id)]
    assert ticket.version == 0


def test_what_is_withdrawn_is_told_to_the_address() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    stranger = decide(sale, keep(sale.terms.event_id, a_user(), transfer.id))
    assert stranger == Rejected(code=RejectionCode.TRANSFER_UNKNOWN)
    reply = decide(sale, keep(sale.terms.event_id, ticket.user_id, transfer.id))
    assert reply == TransferEnded(transfer_id=transfer.id, status="withdrawn")
    assert told(sale) == [("transfer_withdrawn", None)]


@pytest.mark.parametrize("step", [turn_down, keep])
def test_what_is_over_cannot_be_ended_again(step: Callable[..., AnyCommand]) -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    the_time_is(sale, transfer.expires_at)
    asker = ticket.user_id if step is keep else a_user()
    assert decide(sale, step(sale.terms.event_id, asker, transfer.id)) == Rejected(code=RejectionCode.TRANSFER_ENDED)


def test_only_what_is_over_is_swept_away_and_once() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    hint = transfers_over(sale.terms.event_id, transfer.id, a_command_id())
    assert decide(sale, hint) == Done(changed=False)
    the_time_is(sale, transfer.expires_at)
    assert decide(sale, hint) == Done()
    assert decide(sale, hint) == Done(changed=False)
    assert transfer.status == "expired"
    assert told(sale) == [("transfer_expired", ticket.user_id)]


def test_a_ticket_that_ends_is_on_offer_to_nobody() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    end_open_offers(sale, ticket, a_command_id())
    assert transfer.status == "withdrawn"
    assert told(sale) == [("transfer_withdrawn", None)]


def test_an_order_that_comes_to_nothing_ends_its_offers() -> None:
    sale = a_sale()
    ticket = a_ticket(sale)
    transfer = an_offer(sale, ticket)
    decide(sale, cancel_payment(sale.terms.event_id, ticket.order_id))
    assert (ticket.ended_because, transfer.status) == ("cancelled", "withdrawn")


# ---- the secret of the mail


def test_only_the_secret_of_the_mail_opens_an_offer() -> None:
    keys, mine, other = SigningKeys.of(Settings()), TransferId(a_command_id()), TransferId(a_command_id())
    token = transfer_token(keys, mine)
    assert len(token) == TOKEN_LENGTH
    assert is_transfer_token(keys, mine, token)
    for wrong in (transfer_token(keys, other), token[:-1], "", "é" * TOKEN_LENGTH, token + "="):
        assert not is_transfer_token(keys, mine, wrong)


def test_a_mail_that_was_sent_under_the_key_of_before_still_counts() -> None:
    mine, old = TransferId(a_command_id()), Settings()
    new_key = "the new secret, thirty-two characters"
    token = transfer_token(SigningKeys.of(old), mine)
    changed = SigningKeys.of(Settings(signing_key=new_key, signing_key_before=old.signing_key))
    assert is_transfer_token(changed, mine, token)
    assert transfer_token(changed, mine) != token
    assert not is_transfer_token(SigningKeys.of(Settings(signing_key=new_key)), mine, token)
