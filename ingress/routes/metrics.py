"""What does the ingress count, for Prometheus?"""

from http import HTTPStatus

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sanic import Blueprint, HTTPResponse, Request

from ingress.operation import Access, Content, operation
from ingress.responses import Answer
from ingress.shared_metrics import exposition

metrics = Blueprint("metrics")


@metrics.get("/metrics")
@operation(
    access=Access.ANYONE,
    answers={HTTPStatus.OK: Content("text/plain", "Counters in the format of Prometheus.")},
)
async def read_metrics(_: Request) -> HTTPResponse:
    """What this ingress counts, for Prometheus: all its workers together, whichever of them answers."""
    return Answer(await exposition(), int(HTTPStatus.OK), None, CONTENT_TYPE_LATEST)
