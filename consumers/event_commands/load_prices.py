"""What must be known of tiers and codes before a batch can be decided? Of a batch that names none, nothing is asked."""

from collections.abc import Sequence
from uuid import UUID

from consumers.rules.codes import Code
from consumers.rules.sale import Sale
from contracts.codes import as_compared
from contracts.commands import AnyCommand, ApplyCode, ReserveSeats
from contracts.ids import UserId
from db import prices as records
from db.postgres import Transaction


async def load_prices(tx: Transaction, sale: Sale, commands: Sequence[AnyCommand]) -> None:
    """Add it to the sale, under its fence: who counts uses of a code counts all that were committed before."""
    naming_codes = [c for c in commands if isinstance(c, ReserveSeats | ApplyCode) and c.code]
    if naming_codes:
        await _load_codes(tx, sale, naming_codes)
    if any(isinstance(command, ReserveSeats) and any(command.tiers) for command in commands):
        sections = {seat.section for seat in sale.seats.values()}
        for record in await records.find_tiers(tx, sale.terms.event_id, sections):
            sale.tiers[record["section"], record["name"]] = record["price"]


async def _load_codes(tx: Transaction, sale: Sale, commands: Sequence[ReserveSeats | ApplyCode]) -> None:
    event_id = sale.terms.event_id
    for record in await records.find_codes(tx, event_id, {as_compared(command.code) for command in commands}):
        sale.codes[record["code"]] = Code(**dict(record))
    # Thousands may use a code, and only where it has a limit somebody has to count them.
    limited: list[UUID] = [code.id for code in sale.codes.values() if code.uses_max is not None]
    sale.code_uses |= await records.count_uses(tx, event_id, limited)
    limited = [code.id for code in sale.codes.values() if code.uses_per_user_max is not None]
    users = {command.user_id for command in commands}
    for code_id, user_id, use_count in await records.count_uses_of_users(tx, event_id, limited, users):
        sale.code_uses_of_users[code_id, UserId(user_id)] = use_count
