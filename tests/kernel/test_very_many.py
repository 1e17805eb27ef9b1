"""Very many events, renumberings, routes and links: all are applied, nothing piles up, no hook is kept."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from state import in_line, leftovers, waiting
from two_lines import CABLE, CONFIG, GUARD, ONE

from world import World
from world.ppp import PEER, event


@pytest.mark.fault("F1", "F62")
@pytest.mark.timeout(180)
def test_five_hundred_events_while_eight_lines_flap(world: World) -> None:
    """Addresses come, change and go while the hooks run; late words among them. The end is what the kernel has."""
    world.configure("".join(f'[link.l{n}]\ninterface = "ppp{n}"\ntable = {200 + n}\n' for n in range(8)))
    for number in range(8):
        world.ppp_up(f"ppp{number}", f"203.0.113.{10 + number}", PEER, event=False)
    world.multihook("sync", check=True)
    chance = random.Random(5)
    now: list[str] = [f"203.0.113.{10 + number}" for number in range(8)]
    script = ""
    for turn in range(63):
        changes, told = [], []
        for number in range(8):
            before, after = now[number], chance.choice(["", f"203.0.113.{20 + turn * 8 % 200 + number}"])
            if turn == 62 and number < 4:
                after = f"203.0.113.{240 + number}"
            if before:
                changes.append(f"addr del {before} peer {PEER}/32 dev ppp{number}")
            if after:
                changes.append(f"addr add {after} peer {PEER}/32 dev ppp{number}")
            now[number] = after
            late = chance.random() < 0.2
            told.append(event("ip-up", f"ppp{number}", after) if after and not late else event("ip-down", f"ppp{number}", before or after or ONE))
        # The last word of each line is a true one.
        if turn == 62:
            told += [event("ip-up" if address else "ip-down", f"ppp{n}", address or ONE) for n, address in enumerate(now)]
        script += "ip -batch - <<'END'\n" + "\n".join(changes) + "\nEND\n"
        script += "".join(" ".join(f"'{word}'" for word in argv) + " &\n" for argv in told)
    world.box.run("dash", "-c", script + "wait\n", timeout=150)
    world.settle(2)  # so long after the last caller has gone on nothing is at work any more
    assert waiting() == [] and leftovers() == []
    for number, address in enumerate(now):
        expected = f"default dev ppp{number} proto 109 scope link src {address}" if address else GUARD[0]
        assert world.routes(200 + number)[0] == expected, number
    assert {rule["src"] for rule in world.box.ip_json("rule", "show", "priority", "7400")} == set(filter(None, now))
    assert in_line(world)
    # An address that was gone again when its route was made is no failure: another event was waiting. On a machine
    # that is busy otherwise a caller may have gone on before its event was applied, and have said so.
    assert [line for line in world.log.problems() if "lock was not free" not in line] == []


@pytest.mark.fault("F24", "F62")
@pytest.mark.timeout(300)
def test_a_thousand_renumberings_leave_as_many_objects_as_there_were(two_lines: World) -> None:
    """Rules, routes, the whole of our nft table, connection tracking, files and processes: counted before and after."""
    session = two_lines.sessions["ppp0"]

    def counted() -> dict[str, int]:
        tops = ("/run/multihook", "/var/lib/multihook", "/etc/iproute2", "/etc/multihook", "/tmp", "/dev/shm", "/run")
        return {
            "files": sum(len(list(Path(top).iterdir() if top in ("/tmp", "/run") else Path(top).rglob("*"))) for top in tops),
            **{name: len(value) for name, value in two_lines.snapshot(foreign=False).items()},
            "nft": len(two_lines.box.nft_json("list", "ruleset")),
            "sockets": len(Path("/proc/net/netlink").read_text().splitlines()),
            "processes": len(two_lines.box.pids()),
        }

    addresses = [f"203.0.113.{50 + number % 200}" for number in range(1000)]
    session.readdress(addresses[-1])
    session.up_event()
    two_lines.settle()
    before = counted()
    script, last = "", addresses[-1]
    for address in addresses:
        script += f"ip -batch - <<'END'\naddr del {last} peer {PEER}/32 dev ppp0\naddr add {address} peer {PEER}/32 dev ppp0\nEND\n"
        script += f"/etc/ppp/ip-up.d/multihook ppp0 /dev/pts/9 0 {address} {PEER} ''\n"
        last = address
    two_lines.box.run("dash", "-eu", input=script, timeout=280)
    two_lines.settle()
    assert counted() == before
    assert two_lines.multihook("status").returncode == 0
    assert len(two_lines.log.lines()) == 1001, "one line for each change"


@pytest.mark.fault("F57")
def test_a_full_table_in_main_and_hundreds_of_links_keep_no_hook(two_lines: World) -> None:
    """100,000 routes of BGP by another interface, 256 links configured: nothing of it is copied, nobody waits."""
    two_lines.box.ip("link add bgp type bridge", "link set bgp up", "addr add 192.0.2.1/24 dev bgp")
    table = "".join(f"route add {10 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24 via 192.0.2.2 dev bgp proto bird\n" for n in range(100_000))
    two_lines.box.run("ip", "-batch", "-", input=table)
    two_lines.configure(CONFIG + "".join(f'[link.l{n}]\ninterface = "x{n}"\n' for n in range(254)))
    two_lines.multihook("sync", check=True)
    session = two_lines.sessions["ppp0"]
    start = time.monotonic()
    session.readdress("203.0.113.77")
    session.up_event()
    assert time.monotonic() - start < 3
    assert len(two_lines.routes(200)) == 3 and len(two_lines.routes(201)) == 3
    assert len([rule for rule in two_lines.rules() if "proto 109" in rule]) == 6
    assert in_line(two_lines)
    assert two_lines.connect(source="203.0.113.77").by == {"ppp0"} and two_lines.connect(source=CABLE).by == {"wan1"}
