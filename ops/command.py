"""What can an operator ask `boxoffice` to do? Each subcommand lives in a module of its own and is registered here."""

import typer

from ops import admins, demo_data, events, queues, verify
from ops.backup import command as backup
from ops.bench import command as bench
from ops.dash import command as dash
from ops.doctor import command as doctor
from ops.door import command as door
from ops.parking import command as parking
from ops.rush import command as rush
from ops.stack import down, logs, restart, run, status, up
from ops.waiting_room import command as waiting_room

app = typer.Typer(
    help="Ticketing for the worst ten minutes of the year: run it, watch it, prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold passwords
)

app.command("run")(run.run)
app.command("up")(up.up)
app.command("restart")(restart.restart)
app.command("down")(down.down)
app.command("status")(status.status)
app.command("dash")(dash.dash)
app.command("logs")(logs.logs)
app.command("seed")(demo_data.seed_command)
app.command("events")(events.events)
app.add_typer(admins.app, name="admin")
app.add_typer(door.app, name="door")
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)
app.add_typer(backup.backup, name="backup")
app.add_typer(backup.restore, name="restore")
app.add_typer(queues.app, name="queues")
app.add_typer(parking.app, name="parking")
app.command("rush")(rush.rush)
app.command("bench")(bench.bench)
app.add_typer(waiting_room.app, name="waitingroom")

if __name__ == "__main__":
    app()
