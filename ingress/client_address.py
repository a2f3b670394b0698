"""At which address is this client, as far as limits are concerned?

The peer of the connection, unless that is a proxy of ours: then what the nearest trusted proxy saw. Anything a client
writes into X-Forwarded-For itself stands left of that, and is never read.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from sanic import Request

from contracts.settings import Network
from ingress.resources import resources_of

# What a provider hands out to one customer lies between /48 and /64: whoever has a /64 to choose addresses from has one
# bucket, and few strangers share it.
IPV6_PREFIX_BITS = 56
# Parsing takes 2 µs, and the same few thousand addresses come again and again.
ADDRESSES_REMEMBERED = 16_384
# What is longer is no address, and need not be remembered at its full length to be none.
ADDRESS_LENGTH_MAX = 45

Address = IPv4Address | IPv6Address


def client_address(request: Request) -> str:
    """What a client's requests and streams are counted under: an IPv4 address, or an IPv6 network of 56 bits."""
    proxies = resources_of(request).gate.proxies
    if not proxies.networks:
        return counted(request.ip)
    return proxies.client_of(request.ip, request.headers.getall("x-forwarded-for", ()))


class TrustedProxies:
    """The proxies whose X-Forwarded-For is believed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = networks

    def client_of(self, peer: str, forwarded: Iterable[str]) -> str:
        """Whoever is behind that peer, given its X-Forwarded-For headers; the peer itself when they say nothing usable."""
        if not self.networks or not self._trusts(_parsed(peer)):
            return counted(peer)
        for seen in reversed(",".join(forwarded).split(",")):
            text = seen.strip()[: ADDRESS_LENGTH_MAX + 1]
            address = _parsed(text)
            if address is None:
                return counted(peer)
            if not self._trusts(address):
                return counted(text)
        return counted(peer)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


@lru_cache(ADDRESSES_REMEMBERED)
def counted(address: str) -> str:
    """The address itself or, for IPv6, the network that one customer has; what is no address is left as it is."""
    parsed = _parsed(address)
    if not isinstance(parsed, IPv6Address):
        return address if parsed is None else str(parsed)
    return str(IPv6Network((int(parsed), IPV6_PREFIX_BITS), strict=False))


@lru_cache(ADDRESSES_REMEMBERED)
def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket that listens on both families calls 192.0.2.1 ::ffff:192.0.2.1: it is one client.
    return getattr(address, "ipv4_mapped", None) or address
