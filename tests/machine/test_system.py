"""multihook.service beside Debian's nftables.service, and dpkg, under systemd."""

import filecmp
from pathlib import Path

import pytest

from live import Live
from live.live import assert_works
from world.namespaces import run_tool

CONFIG = """
[link.one]
interface = "wan3"
table = 203
snat = true

[link.two]
interface = "wan4"
table = 204
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def addresses(live: Live) -> dict[str, str]:
    """Two static lines, configured, in line; the default route is by the first."""
    live.configure(CONFIG)
    found = {}
    for interface, network in (("wan3", "203.0.113.0/24"), ("wan4", "198.51.100.0/24")):
        provider = live.provider(interface, network, wire=interface)
        found[interface] = provider.static(7)
        live.box.ip(f"addr add {found[interface]}/24 dev {interface}")
        live.box.ip(f"route add default via {provider.gateway} dev {interface} metric {len(found)}")
    live.multihook("sync", check=True)
    return found


@pytest.mark.fault("F40")
def test_nftables_service_empties_the_ruleset_and_ours_comes_back(live: Live, addresses: dict[str, str]) -> None:
    """`flush ruleset` takes our table too; whatever was done to the unit, it is back, and a LAN client is translated.

    What `multihook flush` took out stays out: no restart of nftables or of our own unit brings it back; sync does.
    """
    lan = live.lan()
    before = live.snapshot(foreign=False)
    for words in (("reload",), ("restart",), ("restart", "restart", "restart"), ("stop", "start")):
        for word in words:
            live.systemctl(word, "nftables.service")
        live.idle()
        assert live.snapshot(foreign=False) == before, words
        outcome = live.connect(ns=lan.ns)
        assert (outcome.ok, outcome.source, outcome.by) == (True, addresses["wan3"], {"wan3"}), words
    live.agrees()
    live.multihook("flush", check=True)
    foreign = live.snapshot(ours=False)
    nothing = {"rules4": [], "rules6": [], "routes4": [], "routes6": [], "group": [], "nft": []}
    for words in (("restart", "nftables.service"), ("reload", "nftables.service"), ("restart", "multihook.service"),
                  ("stop", "nftables.service"), ("start", "nftables.service")):  # fmt: skip
        live.systemctl(*words)
        live.idle()
        assert live.snapshot(foreign=False) == nothing, words
    assert live.snapshot(ours=False) == foreign
    live.multihook("sync", check=True)
    assert live.snapshot(foreign=False) == before
    live.agrees()
    for interface, address in addresses.items():
        assert_works(live, interface, address)
    assert live.wrong() == []


def package(folder: str) -> str:
    """The package there."""
    (found,) = Path(folder).glob("multihook_*.deb")
    return str(found)


@pytest.mark.fault("F75")
def test_upgraded_from_debian_12s_build_removed_and_installed_again(live: Live, addresses: dict[str, str]) -> None:
    """dpkg under systemd, lines in use: not a packet is lost, the kernel is the same; removal leaves nothing of ours."""
    before, foreign = live.snapshot(foreign=False), live.snapshot(ours=False)
    steps = [package("/jail/older"), package("/jail/packages")]
    if filecmp.cmp(*steps, shallow=False):
        # Debian 12 itself, or the only release of this run: what is installed is that build, put in once more.
        del steps[0]
    with live.flow(source=addresses["wan4"], interval=0.1) as flow:
        for path in steps:
            done = run_tool("dpkg", "--install", path, timeout=200)
            assert live.snapshot(foreign=False) == before, (path, done.stdout + done.stderr)
            live.agrees()
    assert (flow.lost, flow.errors) == (0, [])
    assert live.systemctl("is-active", "multihook.service") == "active"
    for interface, address in addresses.items():
        assert_works(live, interface, address)
    run_tool("dpkg", "--remove", "multihook", timeout=200)
    after = live.snapshot()
    try:
        assert live.snapshot(ours=False) == foreign
        assert after["nft"] == foreign["nft"] and not [rule for rule in after["rules4"] if str(rule.get("protocol")) == "109"]
        assert live.systemctl("is-active", "multihook.service", check=False) == "inactive"
        assert live.connect(source=addresses["wan4"]).wrong == {"wan3"}, "the rig sees nothing wrong without the package"
    finally:
        run_tool("dpkg", "--install", package("/jail/packages"), timeout=200)
    assert live.snapshot(foreign=False) == before
    for provider in live.providers.values():
        provider.forget()
    for interface, address in addresses.items():
        assert_works(live, interface, address)
