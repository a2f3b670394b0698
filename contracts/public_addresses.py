"""Is this an address that everybody can reach, or one that only we can?"""

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

URL_LENGTH_MAX = 2000


def is_public_address(address: str) -> bool:
    """Whether an IP address belongs to nobody's own network; False for what is no address."""
    try:
        parsed = ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_global and not parsed.is_multicast


def why_not_callable(url: str, *, is_development: bool) -> str:
    """Why we would not call this URL, in words; empty when we would. In development http and our own machine are fine."""
    parts = urlsplit(url)
    if len(url) > URL_LENGTH_MAX or not parts.hostname or parts.username or parts.password or parts.fragment:
        return "give an absolute URL without user, password or fragment"
    if parts.scheme != "https" and not (is_development and parts.scheme == "http"):
        return "give a URL that begins with https://"
    host = parts.hostname
    is_literal = host.replace(".", "").isdigit() or ":" in host
    if not is_development and (host == "localhost" or (is_literal and not is_public_address(host))):
        return "give an address that is reachable from the internet"
    return ""
