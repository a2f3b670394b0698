"""How does the code of a ticket look to a camera?

A QR code at level M, which forgives a scratch or a fold: of our codes version 4, 33 modules a side. Black on white whatever
the page around it is, with the quiet zone of four modules that scanners need.
"""

import io
from functools import cache
from pathlib import Path
from typing import Any

import segno

_PICTURES = Path(__file__).with_name("pictures")
QUIET_MODULES = 4
# Of a code of 41 modules with its margin: 328 pixels, sharp on a telephone's screen.
_PIXELS_PER_MODULE = 8


def ticket_qr(code: str) -> "segno.QRCode":
    """The QR code of that text; its `matrix` is rows of modules, true where it is dark."""
    return segno.make_qr(code, error="m")


def ticket_svg(code: str) -> bytes:
    """The QR code as an SVG that grows with the page it stands on."""
    return _saved(code, kind="svg", scale=_PIXELS_PER_MODULE, light="white", title="Code of the ticket")


def ticket_png(code: str) -> bytes:
    """The QR code as a PNG."""
    return _saved(code, kind="png", scale=_PIXELS_PER_MODULE)


@cache
def only_in_the_app(kind: str) -> bytes:
    """The picture in place of a code that changes every few seconds, `svg` or `png`: that of a moment would be worth nothing,
    and somebody would stand at the door with it."""
    return (_PICTURES / f"only_in_the_app.{kind}").read_bytes()


def _saved(code: str, **how: Any) -> bytes:
    picture = io.BytesIO()
    ticket_qr(code).save(picture, border=QUIET_MODULES, **how)
    return picture.getvalue()
