"""A machine with a configured PPP line and a configured cable: the settings, the lines, and what is ours for each."""

from painted_machine import Machine
from told import bound, ip_up

TWO = '[link.dsl]\nipparam = "dsl"\ntable = 200\n[link.cable]\ninterface = "eth1"\ntable = 201\n'

# Our rules and routes for each in the words of ip(8), once both events were heard.
PPP0 = [
    "192.0.2.1 dev ppp0 table 200 proto 109 src 203.0.113.45",
    "7000: from all oif ppp0 lookup 200 priority 7000 protocol 109",
    "7200: from 203.0.113.45 lookup main suppress_prefixlength 1 suppress_ifgroup 109 priority 7200 protocol 109",
    "7400: from 203.0.113.45 lookup 200 priority 7400 protocol 109",
    "default dev ppp0 table 200 proto 109 src 203.0.113.45",
    "unreachable default table 200 proto 109 metric 4294967295",
]
ETH1 = [
    "198.51.100.0/24 dev eth1 table 201 proto 109 src 198.51.100.7",
    "7000: from all oif eth1 lookup 201 priority 7000 protocol 109",
    "7200: from 198.51.100.7 lookup main suppress_prefixlength 1 suppress_ifgroup 109 priority 7200 protocol 109",
    "7400: from 198.51.100.7 lookup 201 priority 7400 protocol 109",
    "default via 198.51.100.1 dev eth1 table 201 proto 109 src 198.51.100.7",
    "unreachable default table 201 proto 109 metric 4294967295",
]


def two_lines(machine: Machine) -> None:
    """A configured PPP line and a configured cable, both up, nobody told yet."""
    machine.configure(TWO)
    machine.kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    machine.kernel.link("eth1", "198.51.100.7/24")


def both_up(machine: Machine) -> None:
    """The same with both events heard."""
    two_lines(machine)
    machine.drain(bound("eth1", "198.51.100.7", "198.51.100.1"), ip_up("ppp0", "203.0.113.45"))
    assert machine.ours()[0] == sorted(PPP0 + ETH1)
    machine.kernel.changes.clear()
    machine.log.clear()


def renumber(machine: Machine) -> None:
    """The PPP line dials in again and gets another address, nobody told yet."""
    machine.kernel.no_link("ppp0")
    machine.kernel.link("ppp0", "203.0.113.77 peer 192.0.2.1", ppp=True)
