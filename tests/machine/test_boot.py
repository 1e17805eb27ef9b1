"""The machine as it is after boot: two static lines of ifupdown, Debian's nftables.service, multihook as installed."""

import json

import pytest

from world.namespaces import run_tool, wait_until

FAR = "198.18.0.1"  # both providers answer for it
LINES = {"eth1": "192.0.2.2", "eth2": "192.0.2.130"}


def sources_at(provider: str) -> set[str]:
    """What that provider has seen, ARP aside."""
    words = ("ip", "netns", "exec", provider, "nft", "-j", "list", "set", "inet", "judge", "seen")
    (found,) = [entry["set"] for entry in json.loads(run_tool(*words).stdout)["nftables"] if "set" in entry]
    return {element["elem"]["val"] if isinstance(element, dict) else element for element in found.get("elem", [])}


def seconds_of(unit: str, what: str) -> float:
    """A time that systemd has noted of that unit, in seconds since boot: ActiveEnterTimestampMonotonic and the like."""
    return int(run_tool("systemctl", "show", f"--property={what}", "--value", unit).stdout) / 1e6


@pytest.mark.fault("F12")
def test_after_boot_each_line_answers_for_itself_and_nothing_had_to_be_typed() -> None:
    """Adopted by the word of ifupdown; the unit has run after networking and nftables, whose own rule is there too."""
    wait_until("the machine to be up", lambda: run_tool("systemctl", "is-active", "multi-user.target", check=False).returncode == 0, 60)
    assert run_tool("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
    assert run_tool("systemctl", "is-active", "multihook.service", "nftables.service", "networking.service").returncode == 0
    begun = seconds_of("multihook.service", "ExecMainStartTimestampMonotonic")
    assert begun > seconds_of("nftables.service", "ActiveEnterTimestampMonotonic")
    assert begun > seconds_of("networking.service", "ActiveEnterTimestampMonotonic")
    done = run_tool("multihook", "status", check=False)
    assert done.returncode == 0 and {"eth1", "eth2"} <= set(done.stdout.split()), done.stdout + done.stderr
    rules = run_tool("ip", "rule").stdout
    for interface, address in LINES.items():
        assert f"from {address} lookup {interface}" in rules, rules
        for bound in (address, interface):
            assert run_tool("ping", "-n", "-c1", "-W5", "-I", bound, FAR, check=False).returncode == 0, (bound, rules)
    assert sources_at("boot1") == {LINES["eth1"]} and sources_at("boot2") == {LINES["eth2"]}
    assert "the administrator's" in run_tool("nft", "list", "ruleset").stdout
    # A second run finds nothing to do, and says nothing.
    run_tool("journalctl", "--sync")
    before = run_tool("journalctl", "--quiet", "--identifier=multihook", "--output=cat").stdout
    run_tool("systemctl", "reload", "multihook.service")
    run_tool("journalctl", "--sync")
    assert run_tool("journalctl", "--quiet", "--identifier=multihook", "--output=cat").stdout == before
