"""doctor's checks: on a healthy machine none finds anything, and each thing that defeats us is found, with its mend."""

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checked_machine import KERNEL, LEASE, UNITS, Scene, make_scene

from multihook import checks, leases, record
from multihook.address import INET
from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks import machine as checked
from multihook.kernel.rtnetlink import Refused


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return make_scene(tmp_path, monkeypatch)


def test_a_healthy_machine_has_no_finding_and_all_of_it_was_looked_at(scene: Scene) -> None:
    assert scene.look() == []
    assert scene.blind == []


def sysctls(scene: Scene, key: str, **values: int) -> None:
    for name, value in values.items():
        scene.sysctl(f"net/ipv4/conf/{name}/{key}", value)


def wireguard(scene: Scene) -> None:
    scene.kernel.link("wg0", "10.66.0.2/32")
    scene.kernel.route("default", "wg0", table=51820)
    scene.kernel.rule(6999, 51820, protocol=0, inverted=True, mark=(51820, 0xFFFFFFFF))


def no_rule(scene: Scene, priority: int) -> None:
    scene.kernel.rules = [one for one in scene.kernel.rules if checked_priority(one) != priority]


def checked_priority(body: bytes) -> int:
    from multihook.kernel import rules

    return rules.parse(body).priority


def second_card(scene: Scene, address: str = "198.51.100.8/24", **settings: int) -> None:
    scene.kernel.link("eth2", address)
    scene.settings += '[link.second]\ninterface = "eth2"\ngateway = "198.51.100.1"\ntable = 202\n'
    sysctls(scene, "rp_filter", eth2=2)
    sysctls(scene, "arp_filter", eth2=0)


def chain(table: str, priority: int = 100) -> dict[str, Any]:
    return {"chain": {"family": "ip", "table": table, "name": "post", "handle": 1, "type": "nat", "hook": "postrouting", "prio": priority}}


def rule(table: str, *expressions: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"family": "ip", "table": table, "chain": "post", "handle": 7, "expr": list(expressions)}}


def mark_of(value: Any) -> dict[str, Any]:
    return {"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}}


def is_13(scene: Scene) -> None:
    scene.write("/etc/os-release", 'ID=debian\nVERSION_ID="13"\n')


def not_owned(scene: Scene, path: str) -> None:
    scene.write(path, mode=0o777)


def no_gateway(scene: Scene) -> None:
    scene.kernel.routes = [one for one in scene.kernel.routes if one[1]]
    scene.settings = scene.settings.replace('gateway = "198.51.100.1"\n', "")
    lease = leases.Lease("cable", "eth1", INET)
    lease.source, lease.reason, lease.address = "dhclient", "BOUND", bytes((198, 51, 100, 7))
    scene.write("/run/multihook/leases/cable.inet", lease.render())


def unplugged(link: str, interface: str) -> leases.Lease:
    lease = leases.Lease(link, interface, INET)
    lease.source, lease.reason, lease.withdrawn = "dhclient", "BOUND", True
    return lease


# what is spoilt; severity, name; words of the finding; words of its mend
Case = tuple[Callable[[Scene], object], str, str, str, str]
CASES: dict[str, Case] = {
    # kernel
    "no capability": (
        lambda s: s.write("/proc/self/status", "CapEff:\t00000000a80425fb\n"), DEFEATS, "capability", "CAP_NET_ADMIN", "--cap-add=NET_ADMIN"),
    "no rules in the kernel": (
        lambda s: s.write(f"/boot/config-{KERNEL}", s.path(f"/boot/config-{KERNEL}").read_text().replace("CONFIG_IP_MULTIPLE_TABLES=m\n", "# CONFIG_IP_MULTIPLE_TABLES is not set\n")),
        DEFEATS, "kernel-option", "CONFIG_IP_MULTIPLE_TABLES", "linux-image-"),
    "no nat in the kernel": (
        lambda s: s.write(f"/boot/config-{KERNEL}", s.path(f"/boot/config-{KERNEL}").read_text().replace("CONFIG_NFT_NAT=m\n", "")),
        WARNING, "kernel-option", "CONFIG_NFT_NAT", "linux-image-"),
    "connections full": (
        lambda s: (s.sysctl("net/netfilter/nf_conntrack_count", 262144), s.sysctl("net/netfilter/nf_conntrack_max", 262144)),
        DEFEATS, "conntrack-full", "262144 of 262144", "sysctl -w net.netfilter.nf_conntrack_max=1048576"),
    "connections nearly full": (
        lambda s: (s.sysctl("net/netfilter/nf_conntrack_count", 950), s.sysctl("net/netfilter/nf_conntrack_max", 1000)),
        WARNING, "conntrack-full", "950 of 1000", "/etc/sysctl.d/60-conntrack.conf"),
    "no ip": (lambda s: s.remove("/usr/sbin/ip"), WARNING, "program-missing", "ip is not installed", "apt-get install iproute2"),
    "no conntrack": (lambda s: s.remove("/usr/sbin/conntrack"), NOTE, "program-missing", "conntrack", "apt-get install conntrack"),
    # rules
    "wg-quick": (wireguard, DEFEATS, "front-rule", "6999: not from all fwmark 0xca6c", "/etc/wireguard/wg0.conf"),
    "tailscale exit node": (
        lambda s: (s.kernel.route("default", "eth1", table=52), s.kernel.rule(5270, 52)), DEFEATS, "front-rule", "numbers of Tailscale", "tailscale set --exit-node="),
    "somebody's catch-all": (
        lambda s: s.kernel.rule(7399, 254), DEFEATS, "front-rule", "7399: from all lookup main", "ip rule add from all lookup main priority 8100"),
    "wg-quick's rule for main": (
        lambda s: (wireguard(s), s.kernel.rule(6998, 254, protocol=0, suppress=0)), DEFEATS, "segment-rule", "6998: from all lookup main suppress_prefixlength 0", "ip rule add from all lookup main suppress_prefixlength 0 priority 8099"),
    "main first, by anybody": (
        lambda s: s.kernel.rule(7390, 254, suppress=0), DEFEATS, "segment-rule", "another link's network by that link: 7390", "whatever makes this rule"),
    "an old script's rule": (
        lambda s: s.kernel.rule(6999, 1, source="203.0.113.45"), DEFEATS, "address-rule", "address of dsl", "ip rule del from 203.0.113.45 lookup 1 priority 6999"),
    "among ours": (
        lambda s: s.kernel.rule(7500, 300, source="10.0.0.0", prefixlen=8), WARNING, "rule-range", "7500: from 10.0.0.0/8", "rule_base = 8000"),
    "local gone": (lambda s: no_rule(s, 0), DEFEATS, "local-rule", "is gone", "ip rule add lookup local priority 0"),
    "local moved": (
        lambda s: (no_rule(s, 0), s.kernel.rule(32765, 255, protocol=2)), DEFEATS, "local-rule", "stands at 32765", "ip rule del lookup local priority 32765"),
    "main gone": (lambda s: no_rule(s, 32766), WARNING, "main-rule", "main is gone", "ip rule add lookup main priority 32766"),
    # numbers
    "mwan3": (lambda s: s.kernel.rule(2001, 1, mark=(0x100, 0x3F00)), NOTE, "neighbour", "mwan3", ""),
    "strongSwan": (lambda s: s.kernel.rule(220, 220), NOTE, "neighbour", "strongSwan", ""),
    "foreign default in our table": (
        lambda s: s.kernel.route("default", "eth1", via="198.51.100.9", table=200), DEFEATS, "table-clash", "table 200 of dsl", "ip route del default via 198.51.100.9"),
    "foreign route in our table": (
        lambda s: s.kernel.route("10.0.0.0/8", "eth1", via="198.51.100.9", table=201), WARNING, "table-clash", "10.0.0.0/8", "[link.cable]"),
    "our protocol at another's rule": (
        lambda s: s.kernel.rule(100, 300, source="10.0.0.1", protocol=109), WARNING, "protocol", "100: from 10.0.0.1", "rt_proto = 110"),
    "our protocol in another's table": (
        lambda s: s.kernel.route("10.0.0.0/8", "eth1", via="198.51.100.9", table=300, protocol=109), WARNING, "protocol", "routes in table 300", "multihook sync -n"),
    "whole marks": (lambda s: s.kernel.rule(300, 300, mark=(1, 0xFFFFFFFF)), NOTE, "marks", "fwmark 0x1/0xffffffff", "fwmark 0x1/0xffffff "),
    "our marks": (lambda s: s.kernel.rule(300, 300, mark=(0x01000000, 0xFF000000)), NOTE, "marks", "fwmark 0x1000000", "mark_mask = 0x00ff0000"),
    # sysctls
    "strict filter": (lambda s: sysctls(s, "rp_filter", eth1=1), DEFEATS, "rp_filter", "eth1 (cable) is strict", "sysctl -w net.ipv4.conf.eth1.rp_filter=2"),
    "strict filter of one that forwards nothing": (
        lambda s: (sysctls(s, "rp_filter", eth1=1), s.sysctl("net/ipv4/ip_forward", 0)), NOTE, "rp_filter", "forwards nothing", ">>/etc/sysctl.d/60-links.conf"),
    "strict filter by all": (lambda s: sysctls(s, "rp_filter", all=1, eth1=0), DEFEATS, "rp_filter", "strict", "rp_filter=2"),
    "strict filter by a file": (
        lambda s: (sysctls(s, "rp_filter", eth1=1), s.write("/etc/sysctl.conf", "# x\nnet.ipv4.conf.eth1.rp_filter=1\n")), DEFEATS, "rp_filter", "strict", "# /etc/sysctl.conf:2 says: net.ipv4.conf.eth1.rp_filter=1"),
    "two cards": (second_card, WARNING, "arp", "eth1 answers ARP", "sysctl -w net.ipv4.conf.eth1.arp_filter=1"),
    "accept_ra": (
        lambda s: (s.sysctl("net/ipv6/conf/eth1/accept_ra", 1), s.sysctl("net/ipv6/conf/eth1/forwarding", 1)), NOTE, "accept_ra", "eth1 (cable)", "sysctl -w net.ipv6.conf.eth1.accept_ra=2"),
    "sysctl.conf on 13": (
        lambda s: (is_13(s), s.write("/etc/sysctl.conf", "net.ipv4.ip_forward=1\n")), WARNING, "sysctl.conf", "/etc/sysctl.conf:1 sets", "mv /etc/sysctl.conf /etc/sysctl.d/99-local.conf"),
    # hooks
    "ip-up.local": (lambda s: s.write("/etc/ppp/ip-up.local", "#!/bin/sh\n", 0o755), DEFEATS, "ip-up.local", "/etc/ppp/ip-up.local is there", "mv /etc/ppp/ip-up.local /etc/ppp/ip-up.d/0local"),
    "ip-down.local": (lambda s: s.write("/etc/ppp/ip-down.local", "#!/bin/sh\n", 0o755), DEFEATS, "ip-up.local", "/etc/ppp/ip-down.local", "ip-down.d/0local"),
    "ipv6-up.local": (lambda s: s.write("/etc/ppp/ipv6-up.local", "#!/bin/sh\n", 0o755), NOTE, "ip-up.local", "/etc/ppp/ipv6-up.local", "ipv6-up.d/0local"),
    "hook gone": (lambda s: s.remove("/etc/ppp/ip-up.d/multihook"), DEFEATS, "hook-missing", "/etc/ppp/ip-up.d/multihook", "--force-confmiss"),
    "hook not executable": (lambda s: s.path("/etc/ppp/ip-up.d/multihook").chmod(0o644), DEFEATS, "hook-not-run", "/etc/ppp/ip-up.d/multihook", "chmod 755"),
    "dhclient's hook gone": (lambda s: s.remove("/etc/dhcp/dhclient-exit-hooks.d/multihook"), DEFEATS, "hook-missing", "dhclient-exit-hooks.d/multihook", "--force-confmiss"),
    "dhcpcd's hook gone": (lambda s: s.remove("/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook"), DEFEATS, "hook-missing", "90-multihook", "--force-confmiss"),
    "event gone": (lambda s: s.remove("/usr/lib/multihook/event"), DEFEATS, "hook-missing", "/usr/lib/multihook/event", "apt-get install --reinstall"),
    "hook with a dot": (lambda s: s.write("/etc/ppp/ip-up.d/dyndns.sh", mode=0o755), NOTE, "hook-name", "dyndns.sh", "mv -- /etc/ppp/ip-up.d/dyndns.sh /etc/ppp/ip-up.d/dyndns"),
    "hook that exits": (lambda s: s.write("/etc/dhcp/dhclient-exit-hooks.d/debug", "# x\nexit 0\n"), DEFEATS, "hook-exit", "debug:2", "( ... )"),
    "another script": (lambda s: s.write("/etc/dhcp/dhclient.conf", 'script "/usr/local/sbin/mine";\n'), WARNING, "hook-not-run", "/usr/local/sbin/mine", "sed -i 1d /etc/dhcp/dhclient.conf"),
    "own executable that is none": (lambda s: s.write("/etc/multihook/notify.d/mail"), NOTE, "notify", "notify.d/mail", "chmod 755 /etc/multihook/notify.d/mail"),
    "own executable with a dot": (lambda s: s.write("/etc/multihook/notify.d/mail.sh", mode=0o755), NOTE, "notify", "notify.d/mail.sh is not run", "mv -- /etc/multihook/notify.d/mail.sh /etc/multihook/notify.d/mail-sh"),
    "own executable of all": (lambda s: not_owned(s, "/etc/multihook/notify.d/mail"), WARNING, "notify", "by others than root", "chmod go-w"),
    "own executable that leads nowhere": (lambda s: (s.write("/etc/multihook/notify.d/x", mode=0o755), s.symlink("/etc/multihook/notify.d/mail", "nowhere")), NOTE, "notify", "notify.d/mail is a symbolic link that leads nowhere", "rm -- /etc/multihook/notify.d/mail"),
    "own executable that is a fifo": (lambda s: (s.write("/etc/multihook/notify.d/x", mode=0o755), os.mkfifo(s.path("/etc/multihook/notify.d/mail"))), NOTE, "notify", "notify.d/mail is no plain file", "# move /etc/multihook/notify.d/mail elsewhere"),
    # interfaces and peers
    "provider without a file": (
        lambda s: (s.append("/etc/network/interfaces", "iface dsl2 inet ppp\n\tprovider dsl-provider2\n"), s.write("/etc/ppp/peers/dsl-connection2")),
        DEFEATS, "provider", "/etc/network/interfaces:7: provider dsl-provider2", "mv -- /etc/ppp/peers/dsl-connection2 /etc/ppp/peers/dsl-provider2"),
    "provider in a sourced file": (
        lambda s: (s.append("/etc/network/interfaces", "source interfaces.d/*\n"), s.write("/etc/network/interfaces.d/x", "iface y inet ppp\n provider none-such\n")),
        DEFEATS, "provider", "/etc/network/interfaces.d/x:2: provider none-such", "NAME-OF-A-FILE"),
    "no provider at all": (lambda s: s.append("/etc/network/interfaces", "iface y inet ppp\n"), DEFEATS, "provider", "there is no /etc/ppp/peers/provider", "provider NAME-OF-A-FILE"),
    "ipparam of nobody": (lambda s: (s.remove(LEASE), s.write("/etc/ppp/peers/dsl-provider", "noauth\nipparam dslx\n")), WARNING, "ipparam", 'waits for ipparam "dsl"', 'ipparam = "dslx"'),
    "linkname of nobody": (
        lambda s: (setattr(s, "settings", s.settings.replace("ipparam", "linkname"))), WARNING, "linkname", 'waits for linkname "dsl"', "linkname dsl"),
    "two gateways": (
        lambda s: s.append("/etc/network/interfaces", "iface a inet static\n gateway 192.0.2.1\niface b inet static\n gateway 192.0.2.9\n"),
        WARNING, "two-gateways", "/etc/network/interfaces:9: b has a gateway", "metric 100"),
    # managers
    "networkd": (lambda s: s.write("/run/systemd/netif/links/2", "ADMIN_STATE=unmanaged\n"), WARNING, "networkd", "ManageForeignRoutingPolicyRules and ManageForeignRoutes are on", "/etc/systemd/networkd.conf.d/multihook.conf"),
    "networkd, one switch": (
        lambda s: (s.write("/run/systemd/netif/links/2"), s.write("/etc/systemd/networkd.conf", "[Network]\nManageForeignRoutingPolicyRules=no\n")),
        WARNING, "networkd", "ManageForeignRoutes is on", "systemctl restart systemd-networkd"),
    "managed by NetworkManager": (
        lambda s: s.write(f"/run/NetworkManager/devices/{s.kernel._links['eth1'][0]}", "[device]\nmanaged=full\n"),
        WARNING, "unmanaged", "eth1 is managed by NetworkManager", "/etc/NetworkManager/dispatcher.d/90-multihook"),
    "odd name": (
        lambda s: (s.kernel.link("a;b", "192.0.2.7/24"), s.kernel.route("default", "a;b", via="192.0.2.1", metric=9)), WARNING, "interface-name", '"a;b" has a default route', "ip link set dev if"),
    "shorewall": (lambda s: s.write("/etc/shorewall/providers", "#NAME NUMBER\nISP1 1 1 main eth0\n"), WARNING, "multi-wan", "Shorewall", "providers.off"),
    "ifupdown-multi": (lambda s: s.write("/etc/network/if-up.d/multi", mode=0o755), WARNING, "multi-wan", "ifupdown-multi", "apt-get purge ifupdown-multi"),
    "keepalived": (lambda s: s.write("/etc/keepalived/keepalived.conf", "vrrp_instance x {\n  virtual_rules {\n"), NOTE, "multi-wan", "virtual_rules", ""),
    "ec2": (lambda s: s.write("/usr/bin/setup-policy-routes", mode=0o755), WARNING, "multi-wan", "ec2-net-utils", "apt-get purge"),
    # scripts
    "old script": (lambda s: s.write("/etc/rc.local", "#!/bin/sh\nip rule add from 192.0.2.7 table Nic1\n", 0o755), NOTE, "own-script", "/etc/rc.local:2: ip rule add", "take it out"),
    "script that flushes rules": (lambda s: s.write("/etc/ppp/ip-up.d/routes", "ip rule flush\n", 0o755), WARNING, "own-script", "/etc/ppp/ip-up.d/routes:1: ip rule flush", "multihook sync"),
    "script that flushes nftables": (lambda s: s.write("/etc/ppp/ip-up.d/fw", "nft flush ruleset\n", 0o755), WARNING, "flush-ruleset", "/etc/ppp/ip-up.d/fw:1", "multihook sync"),
    # netfilter
    "no unit": (lambda s: s.remove("/usr/lib/systemd/system/multihook.service"), WARNING, "unit", "is not there", "apt-get install --reinstall multihook"),
    "flowtable": (lambda s: s.nft({"flowtable": {"family": "inet", "name": "f", "table": "filter", "dev": ["eth1", "lan0"]}}), WARNING, "flowtable", "link: eth1", "devices = "),
    "fixed snat": (lambda s: s.nft(chain("nat"), rule("nat", {"snat": {"addr": "203.0.113.45"}})), WARNING, "foreign-nat", "table ip nat, chain post", "nft delete rule ip nat post handle 7"),
    "snat of iptables": (lambda s: s.nft(chain("nat"), rule("nat", {"xt": {"type": "target", "name": "SNAT"}})), WARNING, "foreign-nat", "fixed source", "nft delete rule"),
    "masquerade": (lambda s: s.nft(chain("nat"), rule("nat", {"masquerade": None})), NOTE, "foreign-nat", "masquerades", "nft delete rule"),
    "marks in nft": (lambda s: s.nft(rule("mangle", mark_of(0x01000000))), NOTE, "marks", "sets the mark 0x1000000", "mark_mask = 0x00ff0000"),
    # links
    "glftpd.conf missing": (lambda s: setattr(s, "settings", f"{s.settings}[glftpd]\n"), DEFEATS, "glftpd", "there is no /etc/glftpd.conf", "config ="),
    "glftpd.conf without us": (
        lambda s: (setattr(s, "settings", f"{s.settings}[glftpd]\n"), s.write("/etc/glftpd.conf", "sitename x\n")), WARNING, "glftpd", "does not include", "multihook sync"),
    "glftpd.conf with us later": (
        lambda s: (setattr(s, "settings", f"{s.settings}[glftpd]\n"), s.write("/etc/glftpd.conf", "sitename x\ninclude /etc/multilink.conf\n")), WARNING, "glftpd", "not first", "multihook sync"),
    "glftpd.conf with us twice": (
        lambda s: (setattr(s, "settings", f"{s.settings}[glftpd]\n"), s.write("/etc/glftpd.conf", "include /etc/multilink.conf\n" * 2)), WARNING, "glftpd", "more than once", "multihook sync"),
    "no next hop": (no_gateway, DEFEATS, "next-hop", "for cable (eth1)", 'gateway = "ADDRESS"'),
    "misspelt interface": (
        lambda s: (s.kernel.link("enp3s0"), setattr(s, "settings", s.settings + '[link.x]\ninterface = "ens3p0"\n')),
        WARNING, "no-interface", "x waits for ens3p0, and there is no such interface", 'interface = "enp3s0"'),
    "interface that is like no other": (
        lambda s: setattr(s, "settings", s.settings + '[link.x]\ninterface = "wwan0"\n'),
        NOTE, "no-interface", "There are: eth1, ppp0.", ""),
    "another group": (lambda s: s.kernel.set("eth1", group=7), WARNING, "group", "interface group 7", "lan = true"),
}  # fmt: skip


@pytest.mark.fault("F38", "F41", of=("networkd", "networkd, one switch"))
@pytest.mark.fault("F43", of=("among ours", "mwan3", "strongSwan", "foreign default in our table", "our protocol at another's rule", "whole marks", "our marks"))
@pytest.mark.fault("F45", of=("local gone", "local moved", "main gone"))
@pytest.mark.fault("F46", of=("no ip", "no conntrack"))
@pytest.mark.fault("F47", of=("no capability",))
@pytest.mark.fault("F48", of=("no rules in the kernel", "no nat in the kernel"))
@pytest.mark.fault("F51", of=("connections full", "connections nearly full"))
@pytest.mark.fault("F53", of=("flowtable",))
@pytest.mark.fault("F54", of=("strict filter", "strict filter by all", "strict filter by a file"))
@pytest.mark.fault("F55", of=("accept_ra",))
@pytest.mark.fault("F76", of=("ip-up.local", "ip-down.local", "ipv6-up.local"))
@pytest.mark.fault("F77", of=("hook with a dot", "own executable with a dot"))
@pytest.mark.fault("F78", of=("hook that exits",))
@pytest.mark.fault("F79", of=("shorewall", "ifupdown-multi", "keepalived", "ec2", "old script"))
@pytest.mark.parametrize("case", CASES)
def test_what_defeats_us_is_found_with_its_mend(scene: Scene, case: str) -> None:
    spoil, severity, name, words, mend = CASES[case]
    spoil(scene)
    found = [one for one in scene.look() if (one.severity, one.name) == (severity, name)]
    assert found, scene.look()
    assert words in found[0].what + found[0].why
    assert mend in "\n".join(found[0].mend)
    # What else a spoilt machine has is said by another word, and nothing is said twice.
    assert len({(one.name, one.what) for one in scene.look()}) == len(scene.look())
    assert scene.blind == []


@pytest.mark.parametrize("case", CASES)
def test_every_finding_reads_well(scene: Scene, case: str) -> None:
    """One line each, printable, no full stop that the command adds, and mends that are commands, lines or comments."""
    CASES[case][0](scene)
    for finding in scene.look():
        assert finding.severity in checks.SEVERITIES
        for line in (finding.what, finding.why, *finding.mend):
            assert line.isascii() and line.isprintable() and line.strip() == line and len(line) < 260, line
        assert not finding.what.endswith(".") and finding.why.endswith((".", ":"))


@pytest.mark.thorough
def test_every_check_has_a_case_that_only_it_answers(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the case would be red: no check is untested."""
    answered = set()
    for number, (spoil, severity, name, _, _) in enumerate(CASES.values()):
        with pytest.MonkeyPatch.context() as own:
            one = make_scene(tmp_path / str(number), own)
            spoil(one)
            machine = one.machine()
            for check in checks.checks():
                if any((finding.severity, finding.name) == (severity, name) for finding in check(machine)):
                    answered.add((check.__module__, check.__name__))
    every = {(check.__module__, check.__name__) for check in checks.checks()}
    elsewhere = {"namespace", "policy_routing", "shared_addresses"}  # each has a test below
    assert {name for _, name in every - answered} == elsewhere


def names(found: list[Finding]) -> list[str]:
    return [one.name for one in found]


# --- what is no finding ---

FINE: dict[str, Callable[[Scene], object]] = {
    "ip-up.local that is not executable": lambda s: s.write("/etc/ppp/ip-up.local", "#!/bin/sh\n"),
    "ip-up.local that runs ip-up.d itself": lambda s: s.write("/etc/ppp/ip-up.local", '#!/bin/sh\nrun-parts /etc/ppp/ip-up.d --arg="$1"\n', 0o755),
    "ip-up of another distribution": lambda s: (s.write("/etc/ppp/ip-up.local", "x", 0o755), s.write("/etc/ppp/ip-up", "run-parts /etc/ppp/ip-up.d\n", 0o755)),
    "no dhcpcd, no hook": lambda s: (s.remove("/usr/sbin/dhcpcd"), s.remove("/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook")),
    "what dpkg left": lambda s: s.write("/etc/ppp/ip-up.d/x.dpkg-dist", mode=0o755),
    "exit behind ours": lambda s: s.write("/etc/dhcp/dhclient-exit-hooks.d/zzz", "exit 0\n"),
    "exit in a function": lambda s: s.write("/etc/dhcp/dhclient-exit-hooks.d/aaa", "( x\n  exit 0 )\n"),
    "tailscale without an exit node": lambda s: (s.kernel.route("100.64.0.0/10", "eth1", table=52)),
    "wg-quick behind us": lambda s: (s.kernel.route("default", "eth1", table=300), s.kernel.rule(8100, 300, inverted=True, mark=(0xCA6C, 0xFFFFFF))),
    "main first, behind ours": lambda s: s.kernel.rule(7999 + 2, 254, suppress=0),
    "main first, where ours says the same": lambda s: s.kernel.rule(5000, 254, suppress=32),
    "a rule for a link's address behind ours": lambda s: s.kernel.rule(32765, 300, source="203.0.113.45"),
    "an exception for a link's address": lambda s: s.kernel.rule(6000, 254, source="203.0.113.45", suppress=0),
    "VRFs move local, but not behind us": lambda s: (no_rule(s, 0), s.kernel.rule(2000, 255, protocol=2)),
    "strict filter, loose by all": lambda s: sysctls(s, "rp_filter", all=2, eth1=1),
    "no filter": lambda s: sysctls(s, "rp_filter", eth1=0),
    "arp_filter by all": lambda s: (second_card(s), sysctls(s, "arp_filter", all=1)),
    "cards in two networks": lambda s: second_card(s, "192.0.2.7/24"),
    "networkd that leaves others alone": lambda s: (
        s.write("/run/systemd/netif/links/2"),
        s.write("/etc/systemd/networkd.conf.d/x.conf", "[Network]\nManageForeignRoutingPolicyRules = no\nManageForeignRoutes=false\n")),
    "networkd's file, networkd off": lambda s: s.write("/etc/systemd/networkd.conf", "[Network]\nManageForeignRoutes=yes\n"),
    "ignored": lambda s: (setattr(s, "settings", s.settings + '[multihook]\nignore = ["eth9"]\n'), s.kernel.link("eth9", "192.0.2.7/24"), s.kernel.route("default", "eth9", via="192.0.2.1", metric=9)),
    "shorewall without providers": lambda s: s.write("/etc/shorewall/providers", "#NAME NUMBER\n"),
    "two gateways, two metrics": lambda s: s.append("/etc/network/interfaces", "iface a inet static\n gateway 192.0.2.1\niface b inet static\n gateway 192.0.2.9\n metric 9\n"),
    "v6 beside v4": lambda s: s.append("/etc/network/interfaces", "iface a inet static\n gateway 192.0.2.1\niface a inet6 static\n gateway fe80::1\n"),
    "a script with main": lambda s: s.write("/etc/ppp/ip-up.d/x", "ip route add 10.0.0.0/8 dev ppp0 table main\n", 0o755),
    "a script's comment": lambda s: s.write("/etc/ppp/ip-up.d/x", "# ip rule flush\n", 0o755),
    "flowtable of others": lambda s: s.nft({"flowtable": {"family": "inet", "name": "f", "table": "filter", "dev": "lan0"}}),
    "our own table": lambda s: s.nft({"rule": {"family": "inet", "table": "multihook", "chain": "x", "handle": 1, "expr": [mark_of(0x01000000)]}}),
    "marks of others": lambda s: s.nft(rule("mangle", mark_of(0x1), mark_of({"|": [{"ct": {"key": "mark"}}, 3]}))),
    "snat, and no link is translated": lambda s: (s.nft(chain("nat"), rule("nat", {"snat": {"addr": "203.0.113.45"}})), setattr(s, "settings", s.settings.replace("table", "snat = false\ntable"))),
    "ip of /bin": lambda s: (s.remove("/usr/sbin/ip"), s.write("/bin/ip", mode=0o755)),
    "13 without sysctl.conf": is_13,
    "13 with a link to it": lambda s: (is_13(s), s.write("/etc/sysctl.conf", "net.ipv4.ip_forward=1\n"), s.symlink("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")),
    "12 with sysctl.conf": lambda s: s.write("/etc/sysctl.conf", "net.ipv4.ip_forward=1\n"),
    "nftables off": lambda s: s.remove(f"{UNITS}/sysinit.target.wants/nftables.service"),
    "glftpd.conf with us first": lambda s: (setattr(s, "settings", f"{s.settings}[glftpd]\n"), s.write("/etc/glftpd.conf", "# x\ninclude /etc/multilink.conf\r\nsitename x\n")),
    "a session that is not up": lambda s: setattr(s, "settings", s.settings + '[link.x]\ninterface = "ppp7"\n'),
    "a card that was there": lambda s: (
        setattr(s, "settings", s.settings + '[link.x]\ninterface = "eth7"\n'),
        s.write("/run/multihook/leases/x.inet", unplugged("x", "eth7").render())),
    "own executable": lambda s: s.write("/etc/multihook/notify.d/mail", mode=0o755),
}  # fmt: skip


@pytest.mark.parametrize("case", FINE)
def test_what_does_no_harm_is_no_finding(scene: Scene, case: str) -> None:
    FINE[case](scene)
    assert scene.look() == [] and scene.blind == []


# --- single ones ---


@pytest.mark.fault("F40")
def test_a_flush_counts_where_our_unit_is_off_only(scene: Scene) -> None:
    scene.remove(f"{UNITS}/multi-user.target.wants/multihook.service")
    flush, unit = scene.look()
    assert (flush.severity, flush.name, unit.severity, unit.name) == (DEFEATS, "flush-ruleset", WARNING, "unit")
    assert "/etc/nftables.conf:3" in flush.what and flush.mend == ("systemctl enable --now multihook.service",)
    scene.write("/etc/nftables.conf", 'include "/etc/nftables.d/*.nft"\n')
    scene.write("/etc/nftables.d/a.nft", "flush ruleset\n")
    assert "/etc/nftables.d/a.nft:1" in scene.look()[0].what
    scene.write("/etc/nftables.d/a.nft", "table inet filter\n")
    assert names(scene.look()) == ["unit"]


def test_a_masked_unit_is_unmasked_first(scene: Scene) -> None:
    scene.symlink(f"{UNITS}/multihook.service", "/dev/null")
    found = scene.look()
    assert "masked" in found[0].what and found[0].mend[0] == "systemctl unmask multihook.service"


def test_without_systemd_the_boot_is_not_checked_and_not_called_right(scene: Scene) -> None:
    scene.path("/run/systemd/system").rmdir()
    assert scene.look() == [] and [one.what for one in scene.blind] == ["what happens at boot"]


@pytest.mark.fault("F48")
def test_a_kernel_that_knows_no_rules_is_told_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = scene.machine()

    def deaf(*_: object) -> None:
        raise Refused(95, "Operation not supported")

    monkeypatch.setattr("multihook.checks.kernel.rules.Dump", deaf)
    found = [one for one in checks.look(machine) if one.name == "kernel-option"]
    assert found[0].severity == DEFEATS and "CONFIG_IP_MULTIPLE_TABLES" in found[0].what


@pytest.mark.fault("F58")
def test_another_namespace_is_told_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    other = record.Certificate(record.boot(), record.namespace() + 1, "x", 109, 109, 2, "0")
    monkeypatch.setattr(record, "certificate", lambda: other)
    assert names(scene.look()) == ["namespace"]
    other.namespace = record.namespace()
    assert scene.look() == []


def test_two_links_with_one_address_are_told_of(scene: Scene) -> None:
    second_card(scene, "198.51.100.7/24")
    assert "shared-address" in names(scene.look())


@pytest.mark.fault("F43")
def test_a_vrf_with_a_links_table_is_told_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multihook.checks.numbers.interfaces.vrf_tables", lambda door: [200])
    (found,) = scene.look()
    assert (found.severity, found.name) == (DEFEATS, "table-clash") and "VRF" in found.what
    assert "table = 1000" in found.mend and "# or in /etc/multihook/multihook.toml under [link.dsl]:" in found.mend


def test_a_session_that_said_its_ipparam_needs_no_file(scene: Scene) -> None:
    scene.write("/etc/ppp/peers/dsl-provider", "noauth\n")
    assert scene.look() == []
    scene.remove(LEASE)
    assert names(scene.look()) == ["ipparam"]


# --- strange files, slow programs ---

STRANGE: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "huge": lambda path: path.write_bytes(b"iface x inet ppp\n" * 640000),
    "loop": lambda path: path.symlink_to(path),
    "latin": lambda path: path.write_bytes(b"caf\xe9 \xff\xfe\n[\n=\n  provider\n"),
    "one long line": lambda path: path.write_bytes(b"iface " * 150000),
    "controls": lambda path: path.write_bytes(b"\x1b[31m iface \x07\n\x1b]0;x\x07 = =\n"),
}  # fmt: skip
READ = (
    "/etc/network/interfaces", "/etc/nftables.conf", "/etc/ppp/peers/dsl-provider", "/etc/ppp/options", "/etc/ppp/ip-up",
    "/etc/ppp/ip-up.local", "/etc/sysctl.conf", "/etc/sysctl.d/x.conf", "/etc/systemd/networkd.conf", "/etc/os-release",
    "/etc/shorewall/providers", "/etc/keepalived/keepalived.conf", "/etc/rc.local", "/etc/dhcp/dhclient.conf",
    "/etc/dhcp/dhclient-exit-hooks.d/aaa", "/proc/self/status", "/proc/sys/net/ipv4/conf/eth1/rp_filter",
    "/proc/sys/kernel/osrelease", f"/boot/config-{KERNEL}", "/proc/net/ip_tables_names", "/etc/multihook/notify.d/x",
    "/run/systemd/netif/links/2", "/run/NetworkManager/devices/2", "/etc/network/interfaces.d", "/etc/ppp/peers", "/etc/cron.d/x",
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("path", READ)
def test_no_strange_file_is_more_than_not_checked(scene: Scene, path: str, kind: str) -> None:
    there = scene.path(path)
    if there.is_dir():
        there.rename(there.with_name("away"))
    elif there.exists():
        there.unlink()
    there.parent.mkdir(parents=True, exist_ok=True)
    STRANGE[kind](there)
    if path == "/etc/ppp/ip-up.local" and kind not in ("folder", "fifo", "loop"):
        there.chmod(0o755)
    found = scene.look()
    for blind in scene.blind:
        assert not blind.why.startswith(("TypeError", "ValueError", "AttributeError", "IndexError", "KeyError")), blind
        assert blind.what.isprintable() and len(blind.what + blind.why) < 300
    for finding in found:
        assert all(line.isascii() and line.isprintable() for line in (finding.what, finding.why, *finding.mend)), finding


def test_what_cannot_be_read_is_said_and_that_root_can(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def stat(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("/etc/ppp/options"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, **more)

    monkeypatch.setattr(os, "stat", stat)
    scene.is_root = False
    scene.settings = scene.settings.replace('"dsl"', '"nobody-says-this"')
    found = scene.look()
    assert "ipparam" not in names(found), "what was not read says nothing"
    assert checked.Blind("/etc/ppp/options", "Permission denied", True) in scene.blind
    assert checked.Blind("the ruleset of nftables", "cannot be read", True) in scene.blind


@pytest.mark.fault("F46")
def test_without_nft_nothing_is_translated_and_its_rules_are_not_looked_at(scene: Scene) -> None:
    scene.remove("/usr/sbin/nft")
    (finding,) = scene.look()
    assert (finding.severity, finding.what) == (DEFEATS, "nft is not installed")
    assert finding.mend == ("apt-get install nftables", "multihook sync")
    assert checked.Blind("the ruleset of nftables", "nft is not installed", False) in scene.blind


def test_a_check_that_breaks_is_not_checked_and_keeps_no_other_from_looking(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from multihook.checks import hooks, kernel

    def broken(machine: checked.Machine) -> list[Finding]:
        raise RuntimeError("\x1b[31m")

    monkeypatch.setattr(kernel, "CHECKS", (broken, *kernel.CHECKS))
    monkeypatch.setattr(hooks, "CHECKS", (*hooks.CHECKS, broken))
    scene.remove("/usr/sbin/conntrack")
    assert names(scene.look()) == ["program-missing"]
    (blind,) = scene.blind
    assert blind.what == "test_checks: broken" and blind.why.isprintable()


@pytest.mark.parametrize("printed", [b"", b"{", b"[]", b'{"nftables": 5}', b'{"nftables": [1, {"rule": 2}, {"chain": {}}, {"rule": {"expr": null}}]}', b"\xff\xfe", b"[" * 100000])
def test_whatever_nft_prints_is_no_traceback(scene: Scene, monkeypatch: pytest.MonkeyPatch, printed: bytes) -> None:
    monkeypatch.setattr(checked.Machine, "run", lambda machine, *argv: printed)
    assert scene.look() == []
    assert not any("Error" in one.why for one in scene.blind)


def machine_alone(root: Path) -> checked.Machine:
    return checked.Machine({}, None, None, [], root=str(root))


def test_a_program_is_bounded_in_time_and_size_and_sees_a_clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_alone(tmp_path)
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")
    assert machine.run("/usr/bin/env") == b"PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\nHOME=/nonexistent\n"
    monkeypatch.setattr(checked, "_OUTPUT_LIMIT", 1 << 16)

    def fails(*argv: str) -> str:
        with pytest.raises(OSError) as error:
            machine.run(*argv)
        return str(error.value.strerror)

    assert "prints too much" in fails("/bin/cat", "/dev/zero")
    assert "ended with status 1" in fails("/bin/false")
    assert "No such file" in fails("/nonexistent")
    monkeypatch.setattr(checked, "_PATIENCE_SECONDS", 0.2)
    assert "does not answer in time" in fails("/bin/sleep", "100")
    # On a busy machine the shell may need longer than that to close its output.
    monkeypatch.setattr(checked, "_output", lambda process: process.stdout.read())
    assert "does not end" in fails("/bin/sh", "-c", "exec >&-; exec sleep 100")


def test_odd_words_are_shown_and_never_pasted() -> None:
    assert checked.pasteable("ip rule del from 192.0.2.1 lookup 5") == "ip rule del from 192.0.2.1 lookup 5"
    for evil in ("ip rule del iif $(reboot)", "ip rule del iif a;b", "x\ny", "`id`", "a|b", "a'b", "\u202e", "*"):
        assert checked.pasteable(evil).startswith("# not to be pasted") and checked.pasteable(evil).isprintable()
    assert checked.quoted("/etc/ppp/peers/a b;id") == "'/etc/ppp/peers/a b;id'"


def test_a_hostile_name_in_peers_is_quoted_where_it_is_to_be_typed(scene: Scene) -> None:
    scene.append("/etc/network/interfaces", "iface x inet ppp\n provider dsl-provide$(id)\n")
    scene.write("/etc/ppp/peers/dsl-provides")
    (found,) = [one for one in scene.look() if one.name == "provider"]
    assert found.mend[0] == "mv -- /etc/ppp/peers/dsl-provides '/etc/ppp/peers/dsl-provide$(id)'    # if that is meant"


def test_the_release_is_debians_only(scene: Scene) -> None:
    assert scene.machine().release() == 12
    for text, number in (("ID=ubuntu\nVERSION_ID=24\n", 0), ("ID=debian\n", 0), ("", 0), ("ID=debian\nVERSION_ID='13'\n", 13), ("ID=debian\nVERSION_ID=99999999\n", 0)):
        scene.write("/etc/os-release", text)
        assert scene.machine().release() == number


def test_the_exit_status_is_one_for_what_will_defeat_us_too() -> None:
    from multihook.command import doctor

    def status(*severities: str, error: str = "") -> int:
        return doctor._exit_status({"error": error}, [Finding(severity, "x", "y", "z.") for severity in severities])

    assert (status(), status(NOTE), status(NOTE, WARNING), status(DEFEATS), status(error="x"), status(DEFEATS, error="x")) == (0, 0, 1, 1, 78, 78)


def test_the_manual_explains_each_word_and_no_other() -> None:
    """The words of all findings, as the checks' own sources have them, are the headings of their section."""
    package = Path(checks.__file__).parent
    sources = [*package.glob("*.py"), package.parent / "command/doctor.py"]
    calls = [node for path in sources for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) == "Finding"]
    said = {call.args[1].value for call in made if isinstance(call.args[1], ast.Constant)} | {"ipparam", "linkname"}
    manual = (Path(__file__).resolve().parents[2] / "debian/man/multihook.8").read_text()
    section = manual.partition('.SH "WHAT DOCTOR FINDS"')[2].partition("\n.SH ")[0].replace("\\-", "-")
    headings = re.findall(r"^\.TP\n\.B (.+)$", section, re.MULTILINE)
    assert {word for line in headings for word in line.split(", ")} == said and len(said) > 30
