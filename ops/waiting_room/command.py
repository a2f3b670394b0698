"""What can be asked of `boxoffice waitingroom`?"""

import typer

from ops.waiting_room import simulate, verify

app = typer.Typer(help="Waiting rooms: check a finished one, rehearse the next.", no_args_is_help=True)

app.command("verify")(verify.verify)
app.command("simulate")(simulate.simulate)


@app.callback()
def waitingroom() -> None:
    """Waiting rooms: check a finished one, rehearse the next."""
