"""How do the requests of the stripe library travel?

Its own aiohttp client has one timeout for everything and a pool of its own making. This one has our connect and read
timeouts, one kept-alive connection for each payment in flight, and leaves out what costs CPU and tells nothing.
"""

from collections.abc import Mapping

import aiohttp
import stripe

# Describes our machine to the provider; building it is the library's business, sending it is not ours.
NOT_SENT = frozenset({"X-Stripe-Client-User-Agent"})


class PaymentTransport(stripe.HTTPClient):
    """Give it to `stripe.StripeClient` as `http_client`; call `close_async` in the end."""

    name = "boxoffice"

    def __init__(self, *, connect_seconds: float, read_seconds: float, connections_max: int) -> None:
        super().__init__()
        self._connections_max = connections_max
        # The total stops a server that sends one byte at a time, which no read timeout does.
        self._timeout = aiohttp.ClientTimeout(
            total=connect_seconds + read_seconds, sock_connect=connect_seconds, sock_read=read_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | bytes | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Body, status and headers; raises stripe.APIConnectionError when there is no whole answer."""
        data = post_data.encode() if isinstance(post_data, str) else post_data
        sent = {name: value for name, value in headers.items() if name not in NOT_SENT}
        try:
            async with self._open().request(method, url, data=data, headers=sent) as response:
                return await response.read(), response.status, response.headers
        except (aiohttp.ClientError, TimeoutError) as problem:
            reason = f"{type(problem).__name__}: {problem}"
            raise stripe.APIConnectionError(reason) from problem  # type: ignore[no-untyped-call]  # untyped library

    async def close_async(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Not in __init__: a session belongs to the loop that runs when it is made.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections_max),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session
