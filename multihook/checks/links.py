"""What stands in the way of one link, as its own notes and the kernel say."""

from collections.abc import Iterator

from multihook.checks import DEFEATS, WARNING, Finding
from multihook.checks.machine import Machine
from multihook.links import Link


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


CHECKS = (next_hops, groups, shared_addresses)
