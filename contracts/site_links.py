"""Where do buyers find on our site what a mail or a calendar tells them of?"""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from contracts.ids import EventId, HoldId, OrderId, TicketId, TransferId
from contracts.settings import Settings


@dataclass(frozen=True)
class SiteLinks:
    """Addresses of the site as buyers see it; `root` has no slash at its end."""

    root: str

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of this deployment: `Settings.public_url`."""
        return cls(settings.public_url.rstrip("/"))

    @property
    def host(self) -> str:
        """The name of the site, without its port."""
        return urlsplit(self.root).hostname or "localhost"

    def event(self, event_id: EventId) -> str:
        """A show and what is on sale of it."""
        return f"{self.root}/events/{event_id}"

    def hold(self, event_id: EventId, hold_id: HoldId) -> str:
        """Seats that are set aside for whoever opens this."""
        return f"{self.root}/events/{event_id}?hold={hold_id}"

    def order(self, order_id: OrderId) -> str:
        """An order, for its buyer."""
        return f"{self.root}/orders/{order_id}"

    def ticket(self, ticket_id: TicketId) -> str:
        """A ticket and its code, for its owner."""
        return f"{self.root}/tickets/{ticket_id}"

    def transfer(self, transfer_id: TransferId, token: str) -> str:
        """An offered ticket, for whoever was sent this: the token is the secret that says so."""
        return f"{self.root}/transfers/{transfer_id}?token={token}"
