"""What can be asked of `boxoffice door`? A scanner's app without a phone: load a list, scan without a network, upload."""

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import aiohttp
import typer

from contracts.check_ins import CheckedIn
from contracts.door_list import ListBroken
from contracts.settings import Settings
from contracts.signing_keys import SigningKeys
from ops.door.device import Answer, Device, Scanned
from ops.stack import Stack

ADMITTED, REFUSED, COULD_NOT = 0, 1, 2

# Half of what the server takes at once: whatever the gates are called, they fit into the largest body it reads.
SCANS_AT_ONCE = 100
# A list of 100,000 tickets takes the server some seconds to make.
TIMEOUT = aiohttp.ClientTimeout(total=120)

app = typer.Typer(
    help="A door without a network: load a list, scan, upload.", no_args_is_help=True, pretty_exceptions_enable=False
)

File = Annotated[Path, typer.Argument(help="The list; what the device writes down stands beside it.")]
Server = Annotated[str | None, typer.Option(help="The shop's address; the local one if nothing is said.")]
Email = Annotated[str, typer.Option(help="The scanner's account.")]
Password = Annotated[
    str, typer.Option(envvar="DOOR_PASSWORD", prompt=True, hide_input=True, help="Better in DOOR_PASSWORD.")
]


class ServerRefused(Exception):
    """The server said no; the message is what it said."""


@app.command("list")
def take_list(
    event: Annotated[UUID, typer.Argument(help="The event's id.")],
    file: File,
    email: Email,
    password: Password,
    server: Server = None,
    key: Annotated[str | None, typer.Option(help="The public key to trust, as `boxoffice door key` shows it.")] = None,
) -> None:
    """Load the list of an event, check its signature, and keep it."""
    device = Device(file)
    try:
        packed = asyncio.run(_loaded(_address(server), email, password, event))
        taken = device.take(packed, key=key)
    except (ListBroken, ServerRefused, aiohttp.ClientError, TimeoutError, OSError) as problem:
        _give_up(f"no list: {problem}")
    typer.echo(f"{taken.head.event_name}: {len(taken.tickets)} tickets, version {taken.head.version}")
    typer.echo(f"signed with {device.key_file.read_text(encoding='ascii').strip()}")


@app.command("scan")
def scan(
    file: File,
    code: Annotated[
        str | None, typer.Argument(help="What the QR code says; none: one a line from the scanner.")
    ] = None,
    gate: Annotated[str, typer.Option(help="Where this is.")] = "Door",
) -> None:
    """Judge codes without a network.

    Exit code of a single one: 0: let them in; 1: do not; 2: there is no list that can be trusted.
    """
    device = Device(file)
    try:
        door_list = device.read_list()
    except (ListBroken, OSError) as problem:
        _give_up(f"no list: {problem}")
    if code is None:
        for line in sys.stdin:
            if line.strip():
                typer.echo(_shown(device.scan(door_list, line.strip(), gate=gate)))
        return
    answer = device.scan(door_list, code, gate=gate)
    typer.echo(_shown(answer))
    sys.exit(ADMITTED if answer.admit else REFUSED)


@app.command("upload")
def upload(file: File, email: Email, password: Password, server: Server = None) -> None:
    """Tell the server what was scanned, the oldest first; may be repeated at any time."""
    device = Device(file)
    try:
        event = device.read_list().head.event_id
        answers = asyncio.run(_uploaded(_address(server), email, password, event, device))
    except (ListBroken, ServerRefused, aiohttp.ClientError, TimeoutError, OSError) as problem:
        _give_up(f"not all could be uploaded: {problem}")
    conflicts = [answer for answer in answers if answer.conflict]
    typer.echo(f"{len(answers)} scans uploaded, {len(conflicts)} conflicts")
    for answer in conflicts:
        typer.echo(f"  {answer.section} {answer.row} {answer.seat_number}: {answer.result}{_elsewhere(answer)}")


@app.command("key")
def key() -> None:
    """Show the public key that this deployment signs its lists with."""
    settings = Settings.read({**Stack.from_environment().environment(), **os.environ})
    typer.echo(SigningKeys.of(settings).public_keys[0])


async def _loaded(server: str, email: str, password: str, event: UUID) -> bytes:
    async with aiohttp.ClientSession(server, cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=TIMEOUT) as http:
        await _log_in(http, email, password)
        async with http.get(f"/api/events/{event}/checkin-list") as response:
            await _require_yes(response)
            return await response.read()


async def _uploaded(server: str, email: str, password: str, event: UUID, device: Device) -> list[CheckedIn]:
    scans = device.to_upload()
    told: list[CheckedIn] = []
    async with aiohttp.ClientSession(server, cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=TIMEOUT) as http:
        await _log_in(http, email, password)
        for start in range(0, len(scans), SCANS_AT_ONCE):
            body = {"eventId": str(event), "scans": _written(scans[start : start + SCANS_AT_ONCE])}
            async with http.post("/api/checkin/batch", json=body) as response:
                await _require_yes(response)
                answers = [CheckedIn.model_validate(answer) for answer in (await response.json())["scans"]]
            device.keep_answers(answers)
            told += answers
    return told


async def _log_in(http: aiohttp.ClientSession, email: str, password: str) -> None:
    async with http.post("/api/auth/login", json={"email": email, "password": password}) as response:
        await _require_yes(response)


async def _require_yes(response: aiohttp.ClientResponse) -> None:
    if response.status < 400:
        return
    try:
        said: dict[str, Any] = await response.json(content_type=None)
        raise ServerRefused(f"{response.status} {said['code']}: {said['whatToDo']}")
    except (ValueError, KeyError, TypeError):
        raise ServerRefused(f"{response.status} from {response.url}") from None


def _written(scans: Iterable[Scanned]) -> list[dict[str, Any]]:
    return [scan.model_dump(mode="json", include={"nonce", "code", "gate", "scanned_at", "admitted"}) for scan in scans]


def _shown(answer: Answer) -> str:
    where = f" {answer.ticket.section} {answer.ticket.row} {answer.ticket.seat_number}" if answer.ticket else ""
    tier = f" ({answer.ticket.tier})" if answer.ticket and answer.ticket.tier else ""
    before = f" At {answer.first.gate}, {answer.first.scanned_at:%H:%M:%S}." if answer.first else ""
    return f"{'ADMIT ' if answer.admit else 'REFUSE'} {answer.result}{where}{tier}: {answer.say}{before}"


def _elsewhere(answer: CheckedIn) -> str:
    first = answer.first
    return "" if first is None else f", also at {first.gate}, {first.scanned_at:%H:%M:%S}"


def _address(server: str | None) -> str:
    return server or Stack.from_environment().environment()["BOXOFFICE_PUBLIC_URL"]


def _give_up(why: str) -> NoReturn:
    typer.echo(why, err=True)
    sys.exit(COULD_NOT)
