"""Which dashboards are there, and what does Grafana load? `make contracts` writes the files."""

import json
from pathlib import Path

from ops.dashboards.panel import Dashboard
from ops.dashboards.payments import PAYMENTS
from ops.dashboards.pipeline import PIPELINE
from ops.dashboards.sale import SALE
from ops.dashboards.waiting_room import WAITING_ROOM

DASHBOARDS = (SALE, PIPELINE, WAITING_ROOM, PAYMENTS)
FOLDER = Path(__file__).parent


def file_of(dashboard: Dashboard) -> Path:
    """Where Grafana finds it."""
    return FOLDER / f"{dashboard.uid.removeprefix('boxoffice-')}.json"


def text_of(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(dashboard.as_json(), indent=2, ensure_ascii=False) + "\n"
