"""Two real PPPoE lines with the same peer address: what pppd does to them, and where packets go meanwhile."""

import pytest
from live import Live
from live.pppoe import Line

CONFIG = """
[link.dsl1]
ipparam = "dsl1"
table = 201

[link.dsl2]
ipparam = "dsl2"
table = 202
"""


@pytest.fixture
def lines(live: Live) -> tuple[Line, Line]:
    """Two providers, and a line set up to each; not started."""
    live.configure(CONFIG)
    first = live.pppoe("dsl1", "203.0.113.0/24", "wan1", "ppp1")
    second = live.pppoe("dsl2", "198.51.100.0/24", "wan2", "ppp2")
    return live.line(first), live.line(second)


def assert_right(live: Live, *lines: Line) -> None:
    """Each line answers and asks for itself, by its address and by its device, and nothing has a wrong source."""
    for line in lines:
        address = line.address
        assert address, line.log()
        for outcome in (
            live.reach(address),
            live.reach(address, "icmp"),
            live.connect(source=address, kind="udp"),
            live.connect(device=line.interface),
        ):
            assert (outcome.ok, outcome.by, outcome.wrong) == (True, {line.interface}, frozenset()), (line.name, outcome)
    assert live.wrong() == []


def test_two_lines_with_the_same_peer_come_up_and_each_answers_for_itself(live: Live, lines: tuple[Line, Line]) -> None:
    """pon, real LCP, PAP and IPCP, Debian's ip-up; the kernel as it should be when it has run."""
    addresses = {line.start() for line in lines}
    assert len(addresses) == 2
    live.wait_right(addresses)
    assert_right(live, *lines)
    live.agrees()
    assert [line.split(":")[0] for line in live.log.lines() if "pppd ip-up" in line] == ["dsl1", "dsl2"]
