"""What stands in the way of one link, as its own notes and the kernel say."""

import re
from collections.abc import Collection, Iterator
from difflib import get_close_matches

from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks.machine import Machine
from multihook.config.schema import Config
from multihook.journal import foreign
from multihook.links import Link

_MOST_SHOWN = 8


def _gateway(link: Link) -> tuple[str, ...]:
    if link.adopted:
        return (f"multihook up {link.interface_name} --gateway ADDRESS",)
    return (f"# in /etc/multihook/multihook.toml under [link.{link.name}]:", 'gateway = "ADDRESS"', "multihook sync")


def next_hops(machine: Machine) -> Iterator[Finding]:
    """A link without a way out: all that is bound to it is refused."""
    for link in machine.links:
        if link.is_up and not any(path.has_exit for path in link.paths.values()):
            yield Finding(
                DEFEATS, "next-hop", f"no next hop is known for {link.name} ({link.interface_name})",
                "Whatever is bound to it is refused.", _gateway(link),
            )  # fmt: skip


def not_there(config: Config, present: Collection[str]) -> dict[str, tuple[str, list[str]]]:
    """The links whose `interface` is none of those present: (it, names like it that no link has) by link.

    pppN are left out: they come with their session.
    """
    free = [name for name in present if name != "lo" and name not in config["by_interface"]]
    missing = {
        name: interface for interface, name in config["by_interface"].items()
        if interface not in present and not re.fullmatch("ppp[0-9]+", interface)
    }  # fmt: skip
    return {name: (interface, get_close_matches(interface, free, 3)) for name, interface in missing.items()}


def names_of_interfaces(machine: Machine) -> Iterator[Finding]:
    """[link.*] with an interface that there is not, and that was never seen: misspelt, or yet to come."""
    if machine.view is None:
        return
    present = list(machine.view.facts.interfaces)
    seen = {
        link.name for link in machine.links for path in link.paths.values()
        if (path.lease.source, path.lease.reason) != ("kernel", "found")
    }  # fmt: skip
    for name, (interface, near) in not_there(machine.config, present).items():
        if name in seen:
            continue
        shown = ", ".join(map(foreign, near or [one for one in present if one != "lo"][:_MOST_SHOWN])) or "none but lo"
        mend = [f"# in /etc/multihook/multihook.toml under [link.{name}], if that is meant:"] if near else []
        mend += [line for one in near[:1] for line in (f'interface = "{foreign(one)}"', "multihook sync")]
        yield Finding(
            WARNING if near else NOTE, "no-interface", f"{name} waits for {interface}, and there is no such interface",
            f"The link is down until there is one. {'Names like it' if near else 'There are'}: {shown}.",
            tuple(mend),
        )  # fmt: skip


def groups(machine: Machine) -> Iterator[Finding]:
    """An interface in somebody else's group: routes of main by it win over other links' tables."""
    if machine.view is None or not machine.view.several:
        return
    for link in machine.links:
        if link.interface and not link.lan and link.interface.group not in (0, machine.config["group"]):
            yield Finding(
                WARNING, "group",
                f"{link.interface_name} ({link.name}) is in interface group {link.interface.group}, which is not ours",
                "Routes of main by it are taken by traffic of other links.",
                (f"ip link set dev {link.interface_name} group 0", "multihook sync",
                 f"# or in /etc/multihook/multihook.toml under [link.{link.name}]:", "lan = true"),
            )  # fmt: skip


def shared_addresses(machine: Machine) -> Iterator[Finding]:
    """An address on two links: no rule can tell them apart."""
    for link in machine.links:
        if any(path.shared for path in link.paths.values()):
            yield Finding(
                WARNING, "shared-address", f"{link.name} has the address of another link",
                "Only sockets that are bound to its interface leave by it.",
                ("# two lines of one provider need two addresses; two modems two networks: change one of them",),
            )  # fmt: skip


CHECKS = (next_hops, names_of_interfaces, groups, shared_addresses)
