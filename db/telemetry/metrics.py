"""Which metrics have a label per event, and how does it stay bounded?

Only events on sale have a label of their own: a house that sells is worth a series, ten thousand that do not are not. What
happens to any other event is counted under `other`, and the series of an event go when its sale is over. Metrics like these
are of consumers only: in a process with several workers a series cannot be taken back.
"""

from collections.abc import Collection
from typing import TypeVar

from prometheus_client.metrics import MetricWrapperBase

EVENT_LABEL = "event_id"
OTHER_EVENTS = "other"

M = TypeVar("M", bound=MetricWrapperBase)

_of_events: list[MetricWrapperBase] = []
_on_sale: frozenset[str] = frozenset()


def of_events(metric: M) -> M:
    """A metric whose first label is `event_id`; write it with `metric.labels(event_label(event_id), …)`."""
    _of_events.append(metric)
    return metric


def event_label(event_id: object) -> str:
    """The event's id while it is on sale, as far as this process knows; otherwise `other`."""
    label = str(event_id)
    return label if label in _on_sale else OTHER_EVENTS


def keep_events(event_ids: Collection[object]) -> None:
    """These are on sale now: they have series of their own, and those of any other event are dropped."""
    global _on_sale  # one process, one set of series
    on_sale = frozenset(map(str, event_ids))
    gone = _on_sale - on_sale
    _on_sale = on_sale
    for metric in _of_events if gone else ():
        for label_values in [values for values in metric._metrics if values[0] in gone]:
            metric.remove(*label_values)
