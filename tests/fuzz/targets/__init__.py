"""What is fuzzed: by name, a function that takes any bytes and fails where a promise is broken.

Each knows what must hold of the answer, not only that there is one.  Nothing here needs atheris: the plain
tests run every kept input through the same functions (tests/plain/test_fuzz_corpus.py).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from targets import addresses, code, configuration, environment, glftpd, machine, netlink, state


class Target(NamedTuple):
    """`run` takes one input; `place` points the product to a folder of ours for as long as it is entered."""

    run: Callable[[bytes], None]
    place: Callable[[Path], AbstractContextManager[None]]


TARGETS = {
    "address": Target(addresses.run, addresses.place),
    "pppd": Target(environment.pppd, environment.place),
    "dhclient": Target(environment.dhclient, environment.place),
    "dhcpcd": Target(environment.dhcpcd, environment.place),
    "ifupdown": Target(environment.ifupdown, environment.place),
    "rtnetlink": Target(netlink.rtnetlink_answers, netlink.place),
    "facts": Target(netlink.facts_answers, netlink.place),
    "routes": Target(netlink.routes_answers, netlink.place),
    "rules": Target(netlink.rules_answers, netlink.place),
    "nftables": Target(netlink.nftables_answers, netlink.place),
    "conntrack": Target(netlink.conntrack_answers, netlink.place),
    "lease": Target(state.lease, state.place),
    "spool": Target(state.spooled, state.place),
    "state": Target(state.others, state.place),
    "glftpd": Target(glftpd.run, glftpd.place),
    "code": Target(code.run, code.place),
    "configuration": Target(configuration.run, configuration.place),
    "machine": Target(machine.run, machine.place),
    "last-good": Target(configuration.last_good, configuration.place),
}
