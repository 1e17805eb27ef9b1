"""What others do at the same event: scripts from how-tos, and packages of Debian; and that they have done it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lines import Ethernet, Log, Ppp
from places import PATH, Command, Row, expect, ip, routes, rules, tool

HERE = Path(__file__).parent
TABLE = 200


def _cleared(line: Ppp | Ethernet, table: int = TABLE) -> None:
    """The line has its other address, and the rules and routes of the one before are gone: few of these take them away."""
    for rule in rules():
        if f"lookup {table}" in rule:
            ip(f"rule del pref {rule.split(':')[0]}")
    subprocess.run(["ip", "route", "flush", "table", str(table)], capture_output=True)
    ip(*line.renumber())


def _check(line: Ppp | Ethernet, hop: str, table: int = TABLE, more: Callable[[], None] = lambda: None) -> Callable[[], None]:
    def check() -> None:
        there = [rule for rule in rules() if f"from {line.address} " in rule]
        expect("a rule for the address", len(there) == 1 and f"lookup {table}" in there[0], rules())
        default = [route for route in routes(table) if route.startswith(f"default via {hop} dev {line.name}")]
        expect("a default route", len(default) == 1, routes(table))
        more()

    return check


def seed_000() -> dict[str, Row]:
    """One card by DHCP: rules to and from, a table, glftpd's files; by grep, cut and awk."""
    line = Ethernet("wan0", 200)
    Path("/etc/dhcpc").mkdir()
    Path("/etc/glftpd.conf").write_text("# glftpd\n" * 100)

    def prepare() -> list[Command]:
        _cleared(line)
        told = {"IPADDR": line.address, "NETMASK": "255.255.255.0", "NETWORK": line.network[:-3], "GATEWAY": line.gateway}
        Path("/etc/dhcpc/dhcpcd-wan0.info").write_text("".join(f"{key}={value}\n" for key, value in told.items()))
        return [Command((str(HERE / "seed-000.sh"), "wan0", str(TABLE)))]

    def more() -> None:
        expect("glftpd's address", f"pasv_addr {line.address}\n" in Path("/etc/multilink.conf").read_text())
        expect("glftpd's include", Path("/etc/glftpd.conf").read_text().count("include /etc/multilink.conf") == 1)

    return {"seed": Row(prepare, _check(line, line.gateway, more=more))}


def seed_001() -> dict[str, Row]:
    """One PPP line with another address: a rule, two routes, SNAT by iptables."""
    line = Ppp(0)
    ip(*line.add())
    tool("iptables", "-t", "nat", "-A", "POSTROUTING", "-o", line.name, "-j", "SNAT", f"--to-source={line.address}")
    log = Path("/var/log/check_ppp0")
    log.write_text(f"2026-01-01 01:00:00 AM {line.address}\n")
    ip(f"rule add from {line.address} pri 300 table {TABLE}")

    def prepare() -> list[Command]:
        ip(*line.renumber())
        subprocess.run(["ip", "route", "flush", "table", str(TABLE)], capture_output=True)
        return [Command((str(HERE / "seed-001.sh"), line.name, str(TABLE), "300"))]

    def more() -> None:
        nat = tool("iptables", "-t", "nat", "-S", "POSTROUTING")
        expect("one translation", nat.count("--to-source") == 1 and f"--to-source {line.address}\n" in nat, nat)

    return {"seed": Row(prepare, _check(line, "192.0.2.1", more=more))}


def seed_002() -> dict[str, Row]:
    """One of two lines: eight commands of ip(8)."""
    line, other, lan = Ethernet("wan0", 200), Ethernet("wan1", 201), Ethernet("lan0", 202)
    words = [line.name, "", line.network, line.gateway, other.name, other.address, other.network, other.gateway]

    def prepare() -> list[Command]:
        _cleared(line)
        words[1] = line.address
        return [Command((str(HERE / "seed-002.sh"), *words, lan.network, lan.name, str(TABLE)))]

    def more() -> None:
        expect("a default by both", "".join(routes("main")).count("nexthop via") == 2, routes("main"))
        expect("five routes", len(routes(TABLE)) == 5, routes(TABLE))

    return {"seed": Row(prepare, _check(line, line.gateway, more=more))}


def ifupdown_multi() -> dict[str, Row]:
    """Debian's package: its hook in if-up.d, as ifup runs it, of one of two lines."""
    lines = Ethernet("wan0", 200), Ethernet("wan1", 201)

    def hook(line: Ethernet, mode: str) -> Command:
        env = {
            "PATH": PATH, "MODE": mode, "PHASE": "post-up", "ADDRFAM": "inet", "METHOD": "static", "LOGICAL": line.name,
            "IFACE": line.name, "IF_ADDRESS": line.address, "IF_MULTI_TABLE": str(line.number),
            "IF_MULTI_GATEWAY": line.gateway, "VERBOSITY": "0",
        }  # fmt: skip
        return Command((f"/etc/network/if-{'up' if mode == 'start' else 'down'}.d/ifupdown-multi",), env)

    def run(line: Ethernet, mode: str) -> None:
        command = hook(line, mode)
        subprocess.run(command.argv, env=command.env, capture_output=True)

    run(lines[1], "start")

    def prepare() -> list[Command]:
        run(lines[0], "stop")
        _cleared(lines[0], lines[0].number)
        return [hook(lines[0], "start")]

    def more() -> None:
        expect("a default by both", "".join(routes("main")).count("nexthop via") == 2, routes("main"))

    return {"peer": Row(prepare, _check(lines[0], lines[0].gateway, lines[0].number, more))}


SHOREWALL = {
    "zones": "fw firewall\nnet ipv4\nloc ipv4\n",
    "interfaces": "?FORMAT 2\nnet wan0 optional\nnet wan1 optional\nloc lan0\n",
    "policy": "all all ACCEPT\n",
    "providers": "isp0 200 1 - wan0 {0} track,balance\nisp1 201 2 - wan1 {1} track,balance\n",
    "snat": "MASQUERADE 192.168.0.0/16 wan0\nMASQUERADE 192.168.0.0/16 wan1\n",
}


def shorewall() -> dict[str, Row]:
    """Debian's package: `shorewall enable` of one of two providers."""
    Log()
    lines = Ethernet("wan0", 200), Ethernet("wan1", 201)
    Ethernet("lan0", 202)
    for name, text in SHOREWALL.items():
        Path("/etc/shorewall", name).write_text(text.format(*(line.gateway for line in lines)))
    settings = Path("/etc/shorewall/shorewall.conf")
    text = settings.read_text()
    # With providers it refuses its own check of sources by route.
    for before, after in (("STARTUP_ENABLED=No", "STARTUP_ENABLED=Yes"), ("ROUTE_FILTER=Yes", "ROUTE_FILTER=No")):
        text = text.replace(before, after)
    settings.write_text(text)
    tool("shorewall", "start")

    def prepare() -> list[Command]:
        tool("shorewall", "disable", "wan0")
        _cleared(lines[0])
        return [Command(("shorewall", "enable", "wan0"))]

    return {"peer": Row(prepare, _check(lines[0], lines[0].gateway))}


def ec2_net_utils() -> dict[str, Row]:
    """Debian's package, where a further address has been given to a network card: what systemd's timer runs.

    It writes files for systemd-networkd and reloads that. Neither networkd's own work is counted here nor the way to
    Amazon's metadata service: `metadata.py` answers on this machine.
    """
    Log()
    line = Ethernet("wan0", 200)
    ip("addr add 169.254.169.254/32 dev lo")
    for program in ("/usr/bin/networkctl", "/lib/systemd/systemd-networkd-wait-online"):
        subprocess.run(["mount", "--bind", "/usr/bin/true", program], check=True)
    mac = Path("/sys/class/net/wan0/address").read_text().strip()
    told = Path("/run/metadata-of-wan0")
    told.write_text(line.address)
    server = subprocess.Popen([sys.executable, "-I", str(HERE / "metadata.py"), mac, str(told)], stdout=subprocess.PIPE)
    assert server.stdout
    server.stdout.readline()  # it listens
    command = Command(("/usr/bin/setup-policy-routes", "wan0", "start"))
    subprocess.run(command.argv, env=command.env, check=True, stdin=subprocess.DEVNULL)
    written = Path("/run/systemd/network/70-wan0.network.d/ec2net_policy_4.conf")

    def prepare() -> list[Command]:
        line.exchange()
        told.write_text(f"{line.address}\n192.0.2.77")
        return [command]

    def check() -> None:
        text = written.read_text()
        expect("a rule for each address", f"From={line.address}\n" in text and text.count("From=") == 2, text)
        expect("no lock left", not os.path.exists("/run/amazon-ec2-net-utils/setup-policy-routes"))

    return {"peer": Row(prepare, check)}
