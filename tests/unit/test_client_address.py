"""Whose address a request is counted under, and that a client cannot choose it."""

import pytest

from contracts.settings import Settings, UnusableSettings
from ingress.client_address import TrustedProxies, counted

PROXIES = TrustedProxies(Settings(trusted_proxies="10.0.0.0/8, 2001:db8:ffff::/48,192.0.2.7").trusted_networks)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        pytest.param("10.1.2.3", ["203.0.113.9"], "203.0.113.9", id="what our proxy saw"),
        pytest.param("192.0.2.7", ["203.0.113.9"], "203.0.113.9", id="a proxy named by its address"),
        pytest.param("2001:db8:ffff::1", ["203.0.113.9"], "203.0.113.9", id="a proxy on IPv6"),
        pytest.param("::ffff:10.1.2.3", ["203.0.113.9"], "203.0.113.9", id="a proxy on a socket of both families"),
        pytest.param("10.1.2.3", ["1.1.1.1, 203.0.113.9"], "203.0.113.9", id="what the client wrote stands left"),
        pytest.param("10.1.2.3", ["1.1.1.1", "203.0.113.9"], "203.0.113.9", id="in a header of its own too"),
        pytest.param("10.1.2.3", ["1.1.1.1, 203.0.113.9, 10.9.9.9"], "203.0.113.9", id="two proxies of ours"),
        pytest.param("10.1.2.3", ["10.9.9.9"], "10.1.2.3", id="nobody but ourselves"),
        pytest.param("10.1.2.3", [], "10.1.2.3", id="a proxy that says nothing"),
        pytest.param("10.1.2.3", [""], "10.1.2.3", id="a proxy that says nothing much"),
        pytest.param("10.1.2.3", ["unknown"], "10.1.2.3", id="no address"),
        pytest.param("10.1.2.3", ["203.0.113.9, "], "10.1.2.3", id="an empty last one"),
        pytest.param("10.1.2.3", ["1.1.1.1, 203.0.113.9:4711"], "10.1.2.3", id="with a port"),
        pytest.param("10.1.2.3", ["1.1.1.1, " + "9" * 4000], "10.1.2.3", id="long"),
        pytest.param("10.1.2.3", ["2001:db8:1:2ff::5"], "2001:db8:1:200::/56", id="a client on IPv6"),
        pytest.param("203.0.113.5", ["1.1.1.1"], "203.0.113.5", id="whoever is no proxy is not believed"),
        pytest.param("11.1.2.3", ["10.1.2.3"], "11.1.2.3", id="not even when it names a proxy"),
        pytest.param("2001:db8:1:2ff::5", ["1.1.1.1"], "2001:db8:1:200::/56", id="on IPv6 neither"),
        pytest.param("", ["1.1.1.1"], "", id="a peer without an address"),
    ],
)
def test_the_client_is_whom_the_nearest_proxy_of_ours_saw(peer: str, forwarded: list[str], address: str) -> None:
    assert PROXIES.client_of(peer, forwarded) == address


@pytest.mark.parametrize("peer", ["10.1.2.3", "127.0.0.1", "203.0.113.5"])
def test_without_proxies_of_ours_nobody_is_believed(peer: str) -> None:
    assert TrustedProxies(()).client_of(peer, ["1.1.1.1"]) == peer


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("2001:db8:1:2ff:1:2:3:4", "2001:db8:1:200::/56"),
        ("2001:DB8:1:200::", "2001:db8:1:200::/56"),
        ("2001:db8:1:300::1", "2001:db8:1:300::/56"),
        ("fe80::1%eth0", "fe80::/56"),
        ("::1", "::/56"),
        ("not an address", "not an address"),
    ],
)
def test_one_customer_has_one_bucket(address: str, bucket: str) -> None:
    assert counted(address) == bucket


@pytest.mark.parametrize("listed", ["10.0.0.0/33", "proxy.example", "10.0.0.1/8", "10.0.0.1 10.0.0.2", "*", "::/200"])
def test_what_is_no_network_is_an_error(listed: str) -> None:
    with pytest.raises(UnusableSettings, match=r"^BOXOFFICE_TRUSTED_PROXIES: "):
        Settings.read({"BOXOFFICE_TRUSTED_PROXIES": listed})


def test_proxies_are_listed_with_or_without_blanks() -> None:
    networks = Settings.read({"BOXOFFICE_TRUSTED_PROXIES": " 10.0.0.0/8,::1 ,"}).trusted_networks
    assert [str(network) for network in networks] == ["10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    "listed",
    [
        "*",
        "null",
        "shop.example.com",
        "https://shop.example.com/",
        "https://shop.example.com/path",
        "https://*.example.com",
        "https://Shop.example.com",
        "https://shop.example.com:443",
        "http://shop.example.com:80",
        "ftp://shop.example.com",
        "https://user@shop.example.com",
        "https://a.example https://b.example",
    ],
)
def test_an_origin_that_no_browser_would_send_is_an_error(listed: str) -> None:
    with pytest.raises(UnusableSettings, match=r"^BOXOFFICE_CORS_ORIGINS: "):
        Settings.read({"BOXOFFICE_CORS_ORIGINS": f"https://good.example,{listed}"})


def test_origins_are_scheme_host_and_port() -> None:
    listed = "https://shop.example.com, http://127.0.0.1:5173,https://[::1]:8443"
    found = Settings.read({"BOXOFFICE_CORS_ORIGINS": listed}).cors_origin_list
    assert found == ("https://shop.example.com", "http://127.0.0.1:5173", "https://[::1]:8443")
