"""Which codes has an organiser given out for an event, and how often are they used?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID, uuid5

from asyncpg import UniqueViolationError
from pydantic import AwareDatetime

from contracts.codes import made_up
from contracts.ids import EventId, UserId
from contracts.value import Amount, Value
from db.audit_log import record_deed
from db.named_queries import queries
from db.postgres import Pool, Transaction, transaction

_SQL = queries("codes")

# How often a batch is made up anew because one of its codes is there already: with 54 random bits, never.
DRAWS_MAX = 3


@dataclass(frozen=True)
class CodeUse:
    """How often a code may be used, and when; None: as often as one likes, always."""

    uses_max: int | None
    uses_per_user_max: int | None
    valid_from: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True)
class CodeTerms(CodeUse):
    """What a code does, and for which sections; none: for all."""

    opens_presale: bool
    percent_off: Decimal
    amount_off: Decimal
    sections: tuple[str, ...]


class Code(Value):
    """A code, what it does and what has become of it."""

    id: UUID
    code: str
    opens_presale: bool
    percent_off: Decimal
    amount_off: Amount
    uses_max: int | None
    uses_per_user_max: int | None
    valid_from: AwareDatetime | None
    valid_until: AwareDatetime | None
    sections: tuple[str, ...]
    disabled_at: AwareDatetime | None
    created_at: AwareDatetime
    # Holds that are alive or were paid; and those of them that were paid.
    use_count: int
    paid_count: int


class NewCode(Value):
    """A code as it is given out."""

    id: UUID
    code: str


# No such event; sections that it does not have; a code that is there already; another request has been sent with this key.
CodesNotMade: TypeAlias = Literal["event_unknown", "sections_unknown", "code_taken", "key_reused"]


class Made(NamedTuple):
    """What a request makes: its id, from which those of the codes follow, and the hash of its body."""

    id: UUID
    request_hash: str


async def make_code(
    pool: Pool, event_id: EventId, made: Made, code: str, terms: CodeTerms, *, by: UserId
) -> list[NewCode] | CodesNotMade:
    """One code as the organiser wants it, given as it is compared; or the one that this request has made before."""
    return await _make(pool, event_id, made, [code], terms, by=by, subject=f"code {code}")


async def make_up_codes(
    pool: Pool, event_id: EventId, made: Made, terms: CodeTerms, *, count: int, prefix: str, by: UserId
) -> list[NewCode] | CodesNotMade:
    """So many codes that nobody can guess, in one statement; or those that this request has made before."""
    for _ in range(DRAWS_MAX):
        codes = [made_up(prefix) for _ in range(count)]
        subject = f"{count} codes {prefix}…" if prefix else f"{count} codes"
        recorded = await _make(pool, event_id, made, codes, terms, by=by, subject=subject)
        if recorded != "code_taken":
            return recorded
    return "code_taken"


async def list_codes(
    pool: Pool, event_id: EventId, *, beginning_with: str, after: str, limit: int
) -> Sequence[Code] | None:
    """At most `limit` codes in the order of the alphabet, after that one; None when there is no such event."""
    if await pool.fetchval(_SQL.find_sections, event_id) is None:
        return None
    found = await pool.fetch(_SQL.list_codes, event_id, beginning_with, after, limit)
    return [Code.model_validate(dict(record)) for record in found]


async def change_code(
    pool: Pool, event_id: EventId, code_id: UUID, use: CodeUse, *, disabled: bool, by: UserId
) -> Code | None:
    """Let the code be used so from now on; what was reserved with it stays as it is. None when there is no such code."""
    async with transaction(pool) as tx:
        known = await tx.fetchrow(_SQL.lock_code, event_id, code_id)
        if known is None:
            return None
        await tx.execute(
            _SQL.update_code,
            *(event_id, code_id, use.uses_max, use.uses_per_user_max, use.valid_from, use.valid_until, disabled),
        )
        found = Code.model_validate(dict(await tx.fetchrow(_SQL.find_code, event_id, code_id)))
        await _record_change(tx, event_id, dict(known), found, by=by)
    return found


async def _make(
    pool: Pool,
    event_id: EventId,
    made: Made,
    codes: Sequence[str],
    terms: CodeTerms,
    *,
    by: UserId,
    subject: str,
) -> list[NewCode] | CodesNotMade:
    ids = [uuid5(made.id, str(position)) for position in range(len(codes))]
    try:
        async with transaction(pool) as tx:
            sections = await tx.fetchval(_SQL.find_sections, event_id)
            if sections is None:
                return "event_unknown"
            if not set(terms.sections) <= set(sections):
                return "sections_unknown"
            await tx.execute(
                _SQL.insert_codes,
                *(event_id, ids, codes, terms.opens_presale, terms.percent_off, terms.amount_off),
                *(terms.uses_max, terms.uses_per_user_max, terms.valid_from, terms.valid_until),
                *(list(terms.sections), made.request_hash),
            )
            after = {**vars(terms), "count": len(codes)}
            await record_deed(
                tx, user_id=by, action="make_codes", event_id=event_id, subject=subject, before=None, after=after
            )
    except UniqueViolationError:
        # The ids are this request's: if they are there, so is what it made before.
        return await _find_creation(pool, event_id, ids, made.request_hash)
    return [NewCode(id=id_, code=code) for id_, code in zip(ids, codes, strict=True)]


async def _find_creation(
    pool: Pool, event_id: EventId, ids: Sequence[UUID], request_hash: str
) -> list[NewCode] | CodesNotMade:
    found = await pool.fetch(_SQL.find_creation, event_id, ids)
    if not found:
        return "code_taken"
    if any(record["request_hash"] != request_hash for record in found):
        return "key_reused"
    return [NewCode(id=record["id"], code=record["code"]) for record in found]


async def _record_change(
    tx: Transaction, event_id: EventId, before: dict[str, Any], found: Code, *, by: UserId
) -> None:
    subject = f"code {before.pop('code')}"
    after = {name: getattr(found, name) for name in before}
    await record_deed(
        tx, user_id=by, action="change_code", event_id=event_id, subject=subject, before=before, after=after
    )
