"""Programs that manage links themselves: what deletes ours, what tells us nothing, other tools for several links."""

import re
from collections.abc import Iterator

from multihook import links
from multihook.address import INET, is_interface_name
from multihook.checks import NOTE, WARNING, Finding
from multihook.checks.machine import Machine
from multihook.journal import foreign
from multihook.kernel.interfaces import name_of
from multihook.managers import heard_of, silent_manager, what_it_tells

_DROP_IN = "/etc/systemd/networkd.conf.d/multihook.conf"
# Later ones win; a name in an earlier folder hides the same name in a later one (systemd.syntax(7)).
_NETWORKD_MAIN = ("/usr/lib/systemd/networkd.conf", "/etc/systemd/networkd.conf")
_NETWORKD_FOLDERS = ("/etc/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d", "/usr/lib/systemd/networkd.conf.d")
_SWITCHES = ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes")
_FALSE = ("no", "n", "false", "f", "0", "off")

_NETWORKD_MEND = (
    "apt-get install networkd-dispatcher",
    "printf '%s\\n' '#!/bin/sh' 'exec multihook sync' >/etc/networkd-dispatcher/routable.d/multihook",
    "chmod 755 /etc/networkd-dispatcher/routable.d/multihook",
)
_NETWORKMANAGER_MEND = (
    "printf '%s\\n' '#!/bin/sh' 'exec multihook sync' >/etc/NetworkManager/dispatcher.d/90-multihook",
    "chmod 755 /etc/NetworkManager/dispatcher.d/90-multihook",
)


def unmanaged(machine: Machine) -> Iterator[Finding]:
    """Default routes by an interface of which nobody tells us."""
    if machine.view is None:
        return
    told = heard_of(machine.links)
    for route in machine.view.facts.defaults(INET):
        name = name_of(route.oif) if route.oif else ""
        if not name or links.is_ignored(machine.config, name):
            continue
        if not is_interface_name(name):
            yield Finding(
                WARNING, "interface-name",
                f'"{foreign(name)}" has a default route, but no name that multihook works with',
                "It is no link: traffic of its address leaves by main's default route.",
                (f"ip link set dev if{route.oif} name wan0    # by its index; for good: systemd.link(5)",),
            )  # fmt: skip
            continue
        manager = silent_manager(route.oif, machine.root)
        if manager and name not in told:
            so_far = what_it_tells(manager, machine.root).partition(":")[0]
            yield Finding(
                WARNING, "unmanaged", f"{name} is managed by {manager}, which tells multihook {so_far}",
                "A change of its address is noticed by the next event of another link only.",
                _NETWORKD_MEND if manager == "systemd-networkd" else _NETWORKMANAGER_MEND,
            )  # fmt: skip


def networkd(machine: Machine) -> Iterator[Finding]:
    """networkd deletes rules and routes that it did not make, at each start and reconfiguration."""
    if not _networkd_runs(machine):
        return
    on = [switch for switch in _SWITCHES if _networkd_setting(machine, switch) not in _FALSE]
    if on:
        yield Finding(
            WARNING, "networkd", f"systemd-networkd runs, and {' and '.join(on)} {'are' if len(on) > 1 else 'is'} on",
            "At each `networkctl reconfigure` and restart it deletes what is multihook's.",
            (f"mkdir -p {_DROP_IN.rpartition('/')[0]}",
             f"printf '%s\\n' '[Network]' {' '.join(f'{switch}=no' for switch in _SWITCHES)} >{_DROP_IN}",
             "systemctl restart systemd-networkd", "multihook sync"),
        )  # fmt: skip


def _networkd_runs(machine: Machine) -> bool:
    wanted = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    return bool(machine.names("/run/systemd/netif/links")) or machine.exists(wanted)


def _networkd_setting(machine: Machine, switch: str) -> str:
    drop_ins: dict[str, str] = {}
    for folder in _NETWORKD_FOLDERS:
        for name in machine.names(folder):
            if name.endswith(".conf"):
                drop_ins.setdefault(name, f"{folder}/{name}")
    value = "yes"
    for path in (*_NETWORKD_MAIN, *(drop_ins[name] for name in sorted(drop_ins))):
        if not machine.exists(path):
            continue
        section = ""
        for line in machine.lines(path):
            text = line.text.strip()
            if text.startswith("["):
                section = text
            key, _, word = text.partition("=")
            if section == "[Network]" and key.strip() == switch:
                value = word.strip().lower() or "yes"
    return value


def other_tools(machine: Machine) -> Iterator[Finding]:
    """Other programs that keep several links: two of them fight."""
    if any(line.text.strip() for line in machine.lines("/etc/shorewall/providers")):
        yield Finding(
            WARNING, "multi-wan", "Shorewall has providers in /etc/shorewall/providers",
            "It makes tables and rules for the same links, and deletes others at its start.",
            ("mv /etc/shorewall/providers /etc/shorewall/providers.off", "systemctl restart shorewall",
             "multihook sync"),
        )  # fmt: skip
    if machine.exists("/etc/network/if-up.d/multi") or machine.exists("/usr/share/ifupdown-multi"):
        yield Finding(
            WARNING, "multi-wan", "ifupdown-multi is installed",
            "It makes tables and rules for the same links.", ("apt-get purge ifupdown-multi", "multihook sync"),
        )  # fmt: skip
    for line in machine.lines("/etc/keepalived/keepalived.conf"):
        if re.match(r"\s*virtual_(rules|routes)\b", line.text):
            yield Finding(
                NOTE, "multi-wan", f"{line.place}: keepalived has {foreign(line.text.split()[0])}",
                "They are left alone; whichever stands first decides for a packet that both fit.",
            )  # fmt: skip
            break
    for path in ("/usr/bin/setup-policy-routes", "/usr/lib/systemd/system/policy-routes@.service"):
        if machine.exists(path):
            yield Finding(
                WARNING, "multi-wan", f"ec2-net-utils is installed ({path})",
                "It makes tables and rules for the same links.",
                ("apt-get purge amazon-ec2-net-utils", "multihook sync"),
            )  # fmt: skip
            break


CHECKS = (networkd, unmanaged, other_tools)
