"""ifupdown: real ifup and ifdown with Debian's hooks; what it says beside a DHCP client, pppd and a look at boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from world import World

NEIGHBOUR = "203.0.113.45"
STATIC = """
auto wan1
iface wan1 inet static
    address 198.51.100.7/24
    gateway 198.51.100.1
    metric 10
"""


@pytest.fixture(autouse=True)
def neighbour(world: World) -> None:
    """A session that stays up, so that there are two lines; ifupdown knows of nothing yet."""
    Path("/run/network").mkdir(exist_ok=True)
    isp = world.provider("isp", "203.0.113.0/24")
    world.ppp_up("ppp0", NEIGHBOUR, "203.0.113.1", isp, defaultroute=True)


def interfaces(text: str) -> None:
    Path("/etc/network/interfaces").write_text(f"auto lo\niface lo inet loopback\n{text}")


def if_up(world: World, *words: str) -> None:
    world.box.run("ifup", *words)


def if_down(world: World, *words: str) -> None:
    world.box.run("ifdown", *words)


def say_again(world: World) -> None:
    """The scripts of if-up.d once more, as ifup runs them for the static stanza: it does not do so twice by itself."""
    world.box.run("run-parts", "/etc/network/if-up.d", env={
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "IFACE": "wan1", "LOGICAL": "wan1", "ADDRFAM": "inet",
        "METHOD": "static", "MODE": "start", "PHASE": "post-up", "IF_ADDRESS": "198.51.100.7",
        "IF_NETMASK": "255.255.255.0", "IF_GATEWAY": "198.51.100.1",
    })  # fmt: skip


def said(world: World, name: str = "wan1") -> list[str]:
    """What was logged of that link; nothing was but changes."""
    assert [entry.text for entry in world.log.entries() if entry.severity != "info"] == []
    return [line for line in world.log.lines() if line.startswith(f"{name}: ")]


def ours(world: World, *names: str) -> list[str]:
    """The rules and routes of ours that name one of these interfaces or addresses."""
    lines = world.rules() + world.routes("all")
    return sorted(line for line in lines if "proto 109" in line and set(names) & set(line.split()))


def assert_works(world: World, address: str, line: str = "wan1") -> None:
    """Asked and asking, by the address's own line."""
    answered, asked = world.reach(address), world.connect(source=address)
    assert (answered.ok, answered.by, answered.wrong) == (True, {line}, frozenset())
    assert (asked.ok, asked.by, asked.wrong) == (True, {line}, frozenset())


def assert_neighbour_alone(world: World) -> None:
    """Nothing is left of wan1, and the neighbour is as before."""
    assert ours(world, "wan1", "198.51.100.7") == []
    assert world.connect(source=NEIGHBOUR).by == {"ppp0"}


@pytest.mark.fast
def test_a_static_line_with_a_gateway_is_adopted_and_let_go(world: World) -> None:
    """ifup: table, rules, group, one log line. Again: nothing. ifdown: all of it gone, one log line."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    interfaces(STATIC)
    world.box.run("ip", "link", "set", "wan1", "down")
    if_up(world, "wan1")
    assert_works(world, "198.51.100.7")
    assert world.connect(device="wan1").by == {"wan1"}
    (entry,) = said(world)
    assert entry.startswith("wan1: 198.51.100.7 on wan1 (ifupdown if-up): 3 rules, ")
    made = world.snapshot(foreign=False)
    world.log.clear()
    with world.ip_monitor("rule") as heard:
        say_again(world)
        world.multihook("sync", check=True)
    assert heard == [] and world.snapshot(foreign=False) == made and world.log.lines() == []
    if_down(world, "wan1")
    assert_neighbour_alone(world)
    (entry,) = said(world)
    assert entry.startswith("wan1: 198.51.100.7 -> - on wan1 (ifupdown if-post-down): ")


def test_a_gateway_that_main_has_no_default_for_is_known_all_the_same(world: World) -> None:
    """The stanza is enough: somebody's script takes the default route out of main."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    interfaces(STATIC + "    up ip route del default via 198.51.100.1\n")
    if_up(world, "wan1")
    assert not [route for route in world.routes() if "default" in route and "wan1" in route]
    assert_works(world, "198.51.100.7")
    world.multihook("sync", check=True)
    assert_works(world, "198.51.100.7")
    if_down(world, "wan1")
    assert_neighbour_alone(world)


def test_aliases_and_further_stanzas_are_no_links_of_their_own(world: World) -> None:
    """The link is known by the address of the stanza with the gateway, in whatever order they come and go."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    more = "iface wan1 inet static\n    address 198.51.100.8/24\n"
    more += "iface wan1:1 inet static\n    address 10.0.0.9\n    netmask 255.255.255.0\n"
    interfaces(STATIC + more)
    if_up(world, "wan1")
    made = ours(world, "wan1")
    if_up(world, "wan1:1")
    assert len(world.box.addresses("wan1")) == 3
    assert [line for line in ours(world, "wan1") if "10.0.0" not in line] == made
    assert [rule for rule in world.rules() if rule.startswith("7400:") and "198.51.100.7" not in rule] == [
        rule for rule in world.rules() if rule.startswith("7400:") and NEIGHBOUR in rule
    ]
    assert_works(world, "198.51.100.7")
    if_down(world, "wan1:1")
    assert ours(world, "wan1") == made
    assert_works(world, "198.51.100.7")
    if_down(world, "wan1")
    assert_neighbour_alone(world)
    # Up, down; the alias's network came into the table and went.
    assert len(said(world)) == 4


def test_all_at_once_says_each_thing_once(world: World) -> None:
    """ifup -a and ifdown -a, loopback, manual and the calls for all together included: one line a link, no warning."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    world.box.ip("link add office type veth peer name far")
    interfaces(STATIC + "auto office\niface office inet manual\n")
    if_up(world, "-a")
    assert_works(world, "198.51.100.7")
    if_down(world, "-a", "--exclude=lo")
    assert_neighbour_alone(world)
    assert len(said(world)) == 2 and len(said(world, "office")) == len(said(world, "lo")) == 0
    assert world.strays() == {}


def test_a_dhcp_stanza_adds_nothing_to_what_the_client_said(world: World) -> None:
    """dhclient's own hook comes first: if-up.d after it changes nothing, writes nothing and says nothing."""
    cable = world.provider("cable", "198.51.100.0/24", wire="wan1")
    cable.serve_dhcp()
    interfaces("iface wan1 inet dhcp\n    metric 10\n")
    # What our script in if-up.d leaves untouched: run-parts takes the folder in the order of names.
    folder = Path("/etc/network/if-up.d")
    for name in ("a-witness", "zz-witness"):
        (folder / name).write_text(
            "#!/bin/sh\nls -ilR --time-style=full-iso /run/multihook /var/lib/multihook >/tmp/rig/$(basename $0)\n"
        )
        (folder / name).chmod(0o755)
    with world.ip_monitor("rule", "route") as heard:
        if_up(world, "wan1")
    (address,) = world.box.addresses("wan1")
    assert Path("/tmp/rig/a-witness").read_text() == Path("/tmp/rig/zz-witness").read_text() != ""
    assert [line for line in heard.about("proto 109") if line.startswith("Deleted")] == []
    (entry,) = said(world)
    assert entry.startswith(f"wan1: {address} on wan1 (dhclient BOUND): ")
    assert_works(world, address)
    world.log.clear()
    if_down(world, "wan1")
    world.settle()
    assert_neighbour_alone(world)
    assert len(said(world)) == 1


def test_ifupdown_knows_more_than_a_look_at_boot_and_less_than_a_lease(world: World) -> None:
    """The next hop of the stanza replaces the one that main happened to have; that of a lease stays."""
    world.configure('[link.cable]\ninterface = "wan1"\ntable = 200\n')
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    interfaces(STATIC)
    hook = Path("/etc/network/if-up.d/multihook")
    hook.chmod(0o644)  # as before the package was installed
    if_up(world, "wan1")
    world.box.ip("route replace default via 198.51.100.9 dev wan1 metric 10")
    world.multihook("sync", check=True)
    assert "default via 198.51.100.9 dev wan1 proto 109 src 198.51.100.7" in world.routes(200)
    hook.chmod(0o755)
    say_again(world)
    for _ in range(2):
        assert "default via 198.51.100.1 dev wan1 proto 109 src 198.51.100.7" in world.routes(200)
        world.multihook("sync", check=True)
    lease = {"new_ip_address": "198.51.100.7", "new_routers": "198.51.100.2", "interface": "wan1", "reason": "REBOOT"}
    world.box.run("/usr/lib/multihook/event", "dhclient", env={"PATH": "/usr/bin:/bin", **lease})
    assert "default via 198.51.100.2 dev wan1 proto 109 src 198.51.100.7" in world.routes(200)
    made = world.snapshot(foreign=False)
    say_again(world)
    assert world.snapshot(foreign=False) == made


@pytest.mark.fault("F7")
def test_networkmanager_that_runs_the_same_folders_has_its_lines_looked_at(world: World) -> None:
    """Debian 12's dispatcher.d/01-ifupdown: up, down, and an `up` that was queued while the line went (F7)."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "IFACE": "wan1", "LOGICAL": "wan1", "METHOD": "NetworkManager",
        "VERBOSITY": "0", "ADDRFAM": "inet", "MODE": "start", "PHASE": "post-up",
    }  # fmt: skip
    world.box.ip("addr add 198.51.100.7/24 dev wan1", "route add default via 198.51.100.1 dev wan1 metric 100")
    world.box.run("run-parts", "/etc/network/if-up.d", env=env)
    assert_works(world, "198.51.100.7")
    for folder in ("if-post-down.d", "if-up.d"):
        world.box.ip("addr flush dev wan1")
        world.box.run("run-parts", f"/etc/network/{folder}", env=env)
        assert_neighbour_alone(world)
    assert len(said(world)) == 2


@pytest.mark.fault("F12")
def test_before_anything_of_ours_is_mounted_the_hook_is_silent(world: World) -> None:
    """F12: networking.service runs before /run/multihook is made, and maybe before /etc is as it will be."""
    world.provider("cable", "198.51.100.0/24", wire="wan1").static(7)
    interfaces(STATIC)
    hide = "mount -t tmpfs -o ro none /etc/multihook; mount -t tmpfs -o ro none /var/lib/multihook; rm -rf /run/multihook; "
    done = world.box.run("unshare", "-m", "sh", "-c", hide + "exec ifup wan1")
    assert (done.stdout, done.stderr) == ("", "")
    assert world.multihook("sync").returncode == 0
    assert_works(world, "198.51.100.7")
