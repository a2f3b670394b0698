"""How does a client get a table of any length?

As CSV (RFC 4180), row by row as it is read: neither we nor the client has to hold all of it. The head is sent before the
first row is found, so that nothing on the way takes us for dead; the connection of a client that hangs up, or that takes
nothing for RESPONSE_TIMEOUT_SECONDS, is given up, and with it what was being read. A file that breaks off does not look
complete: its last chunk is missing.
"""

import asyncio
import csv
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from io import StringIO
from typing import Any, TypeAlias
from uuid import UUID

from pydantic.alias_generators import to_camel
from sanic import HTTPResponse, Request

from db.moments import Pages
from ingress.operation import Content
from ingress.responses import Answer, ProblemCode, Refusal, problem

CSV = "text/csv; charset=utf-8; header=present"
# A file has a connection of the pool for as long as it lasts; the others are for those who buy.
FILES_AT_ONCE_MAX = 2
# Longer than any file takes that is being read; its snapshot keeps PostgreSQL from clearing away what has changed since.
FILE_SECONDS_MAX = 600.0
# A cell that begins like this is a formula to a spreadsheet, whoever wrote it: a buyer may call himself =HYPERLINK(…).
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Cell: TypeAlias = str | int | Decimal | datetime | UUID | None

_places = asyncio.Semaphore(FILES_AT_ONCE_MAX)


def csv_content(description: str) -> Content:
    """What a route that answers with such a file says of it."""
    return Content("text/csv", description)


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """These rows, each line ended by CR and LF."""
    text = StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_written(cell) for cell in row] for row in rows)
    return text.getvalue()


def csv_answer(name: str, rows: Iterable[Sequence[Cell]]) -> HTTPResponse:
    """A short table, as a file of that name."""
    return Answer(csv_text(rows).encode(), int(HTTPStatus.OK), _headers(name), CSV)


async def send_csv(request: Request, name: str, columns: Sequence[str], pages: Pages) -> HTTPResponse | None:
    """A long table, page by page: these columns of its records, camelCase in the header. The route returns what this
    returns. Raises Refusal when too many are being sent."""
    async with aclosing(pages):
        if request.method == "HEAD":
            return Answer(None, int(HTTPStatus.OK), _headers(name), CSV)
        if _places.locked():
            raise Refusal(problem(ProblemCode.BUSY))
        async with _places:
            await _send(request, name, columns, pages)
    return None


async def _send(request: Request, name: str, columns: Sequence[str], pages: Pages) -> None:
    answer = Answer(None, int(HTTPStatus.OK), _headers(name), CSV)
    try:
        async with asyncio.timeout(FILE_SECONDS_MAX):
            await request.respond(answer)
            await answer.send(csv_text([[to_camel(column) for column in columns]]).encode(), end_stream=False)
            async for page in pages:
                await answer.send(
                    csv_text([[record[column] for column in columns] for record in page]).encode(), end_stream=False
                )
    except BaseException:
        # Sanic would end the chunks as they should end, and half a file would look like all of it.
        _hang_up(request)
        raise
    await answer.send(b"", end_stream=True)


def _hang_up(request: Request) -> None:
    transport: Any = request.transport
    if transport is not None:
        transport.abort()


def _headers(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.isoformat(timespec="seconds")
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS):
        return f"'{cell}"
    return str(cell)
