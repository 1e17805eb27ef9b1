"""multihook's rows: each entry point as its caller starts it, and what the kernel and the disk have to show for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

from lines import PEER, Ethernet, Log, Ppp
from places import OUTPUT, PATH, Command, Row, expect, ip, routes, rules, tool

FIRST_TABLE = 2000  # of configured links
CONFIG = Path("/etc/multihook/multihook.toml")
KEPT = ("/run/multihook", "/var/lib/multihook", "/etc")
EVENT = "/usr/lib/multihook/event"
GROUP = "109"


def configure(numbers: range, names: dict[int, str] | None = None, more: str = "") -> None:
    """A link for each number: pppN, or what `names` calls it."""
    names = names or {}
    text = "".join(
        f'[link.l{number}]\ninterface = "{names.get(number, f"ppp{number}")}"\ntable = {FIRST_TABLE + number}\n{more}'
        for number in numbers
    )
    CONFIG.write_text(text)
    # Of a file younger than the kernel's clock can tell, hooks keep no compiled form.
    os.utime(CONFIG, (1_700_000_000.5, 1_700_000_000.5))
    time.sleep(0.1)


def files() -> dict[str, tuple[int, ...]]:
    """All that writing, replacing or touching changes, of everything that multihook could write."""
    found: dict[str, tuple[int, ...]] = {}
    for top in KEPT:
        for folder, folders, names in os.walk(top):
            for name in [".", *folders, *names]:
                status = os.lstat(f"{folder}/{name}")
                found[f"{folder}/{name}"] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def up(line: Ppp) -> Command:
    """What pppd's ip-up runs for us, with the environment that Debian's /etc/ppp/ip-up gives it."""
    interface, tty, speed, local, remote, ipparam = line.arguments()
    env = {
        "PATH": PATH, "DEVICE": tty, "IFNAME": interface, "IPLOCAL": local, "IPREMOTE": remote, "PPPD_PID": "1",
        "PPP_IFACE": interface, "PPP_TTY": tty, "PPP_SPEED": speed, "PPP_LOCAL": local, "PPP_REMOTE": remote,
        "PPP_IPPARAM": ipparam, "SPEED": speed, "ORIG_UID": "0", "PPPLOGNAME": "root",
    }  # fmt: skip
    return Command(("/etc/ppp/ip-up.d/multihook", *line.arguments()), env)


def down(line: Ppp) -> None:
    """ip-down of that line; not measured."""
    tool(EVENT, "pppd", "ip-down", *line.arguments())


def bound(line: Ethernet) -> Command:
    """What dhclient's hook runs for BOUND."""
    env = {
        "PATH": PATH, "reason": "BOUND", "interface": line.name, "new_ip_address": line.address,
        "new_subnet_mask": "255.255.255.0", "new_routers": line.gateway, "new_dhcp_server_identifier": line.gateway,
        "new_domain_name_servers": line.gateway, "new_network_number": line.network.split("/")[0],
    }  # fmt: skip
    return Command((EVENT, "dhclient"), env)


class Rows:
    """The rows of one line among others in a place."""

    def __init__(self, log: Log, line: Ppp | Ethernet, table: int, translated: bool, metric: int = 0) -> None:
        """translated: the link has a section in the configuration. metric: of its default route in main, if it has one."""
        self._log, self._line, self._table, self._translated, self._metric = log, line, table, translated, metric
        self._before: object = None

    def changed(self) -> Row:
        """The line comes back with another address: as by pppd on a new interface, after its ip-down."""

        def prepare() -> list[Command]:
            line = self._line
            if isinstance(line, Ppp):
                line.close()
                down(line)
                line.exchange()
                line.open()
                ip(*line.add(), *self._default())
            else:
                ip(*line.renumber(), *self._default())
            self._log.taken()
            return [self.command()]

        return Row(prepare, self._check_changed)

    def unchanged(self) -> Row:
        """The event again: nothing is to be changed, written or said."""

        def prepare() -> list[Command]:
            self._log.taken()
            self._before = self._state()
            return [self.command()]

        def check() -> None:
            expect("nothing was to be changed", self._before == self._state())
            said = self._log.taken()
            expect("nothing was to be said", not said, *said)

        return Row(prepare, check)

    def command(self) -> Command:
        """The event that says how it is."""
        return up(self._line) if isinstance(self._line, Ppp) else bound(self._line)

    def _default(self) -> list[str]:
        if not self._metric:
            return []
        hop = "" if isinstance(self._line, Ppp) else f"via {self._line.gateway} "
        return [f"route replace default {hop}dev {self._line.name} metric {self._metric}"]

    def _state(self) -> object:
        return rules(), routes(self._table), files()

    def _check_changed(self) -> None:
        said = self._log.taken()
        expect("one line was to be logged", len(said) == 1 and self._line.address in said[0], *said)
        Kernel(self._table).check(self._line, self._table, self._translated)


class Kernel:
    """What the kernel has at this moment: all rules, and the routes and SNAT elements of one link or of all."""

    def __init__(self, table: int | str = "all") -> None:
        self.rules = rules()
        self._routes: dict[str, list[str]] = {}
        for line in routes(table):
            # Only where all are listed is the table named.
            words = line.split(" table ")
            in_table = words[1].split()[0] if len(words) > 1 else str(table)
            self._routes.setdefault(in_table, []).append(line.replace(f" table {in_table}", ""))
        done = subprocess.run(["nft", "list", "map", "inet", "multihook", "snat4"], capture_output=True, text=True)
        self._elements = dict(re.findall(r'"(\S+)" : ([0-9.]+)', done.stdout))

    def check(self, line: Ppp | Ethernet, table: int, translated: bool) -> None:
        """Everything that is kept right for one link; WrongError names what is not."""
        name, address = line.name, line.address
        words = (f" {address} ", f" {line.former} ", f"oif {name} ")
        mine = [rule for rule in self.rules if any(word in rule for word in words)]
        wanted = [
            f"7000: from all oif {name} lookup {table} proto 109",
            f"7200: from {address} lookup 254 suppress_prefixlength 1 suppress_ifgroup {GROUP} proto 109",
            f"7400: from {address} lookup {table} proto 109",
        ]
        expect("rules", sorted(mine) == wanted, mine)
        if isinstance(line, Ppp):
            near, default = f"{PEER} dev {name} proto 109", f"default dev {name} proto 109"
        else:
            near, default = f"{line.network} dev {name} proto 109", f"default via {line.gateway} dev {name} proto 109"
        guard = "7 default proto 109 metric 4294967295"
        found = sorted(self._routes.get(str(table), []))
        wanted = sorted((guard, near, default))
        expect("routes", len(found) == 3 and all(map(str.startswith, found, wanted)), found, wanted)
        expect("source", all(f"src {address}" in route for route in found if route != guard), found)
        group = int(Path(f"/sys/class/net/{name}/netdev_group").read_text(), 0)
        expect("interface group", str(group) == GROUP, group)
        if translated:
            expect("snat", self._elements.get(name) == address, self._elements.get(name))
            for setting, value in (("rp_filter", "2"), ("src_valid_mark", "1")):
                now = Path(f"/proc/sys/net/ipv4/conf/{name}/{setting}").read_text().strip()
                expect(setting, now == value, now)


def sync() -> None:
    """Bring everything in line, and see that it is."""
    tool("/usr/bin/multihook", "sync")
    expect("status after sync", "The kernel agrees" in tool("/usr/bin/multihook", "status"))


def configured(number_of_links: int, number_up: int, ethernet: bool) -> dict[str, Row]:
    """Links with a section each: routing, SNAT, sysctls. Of the first PPP line; with `ethernet` also the last one's, by DHCP."""
    log = Log()
    card = number_up - 1
    configure(range(number_of_links), {card: "wan0"} if ethernet else {})
    lines = [Ppp(number) for number in range(card if ethernet else number_up)]
    ip(*(word for line in lines for word in line.add()))
    rows = {}
    first = Rows(log, lines[0], FIRST_TABLE, True)
    if ethernet:
        second = Rows(log, Ethernet("wan0", 200), FIRST_TABLE + card, True)
        _settle(second.command())
        rows["dhcp changed"] = second.changed()
    _settle(first.command())
    tool("/usr/bin/multihook", "sync")
    rows |= {"changed": first.changed(), "unchanged": first.unchanged()}
    rows["started"] = _cut_short(log, lines[0], "gc.disable()\n")
    rows["loaded"] = _cut_short(log, lines[0], "from multihook.hook import main\n")
    return rows


def everything(number: int) -> dict[str, Row]:
    """An event that looks at everything, with that many links up: the certificate of the last such run is gone."""
    log = Log()
    configure(range(number))
    lines = [Ppp(n) for n in range(number)]
    ip(*(word for line in lines for word in line.add()))
    sync()
    changed = Rows(log, lines[0], FIRST_TABLE, True).changed()

    def prepare() -> list[Command]:
        commands = changed.prepare()
        Path("/run/multihook/private/applied").unlink()
        return commands

    return {"everything": Row(prepare, changed.check)}


def _cut_short(log: Log, line: Ppp, behind: str) -> Row:
    """An ip-up as far as this line of the event's program: what starting it costs before it does anything."""
    text = Path(EVENT).read_text()
    before, there, after = text.partition(behind)
    expect(f"{EVENT} has another line than {behind!r}", there)
    indent = " " * (len(before) - len(before.rstrip(" ")))
    program = Path("/run", f"event-{len(before)}")
    program.write_text(f"{before}{there}{indent}posix._exit(0)\n{after}")
    command = up(line)
    entry = Path("/run", f"ip-up-{len(before)}")
    words = Path(command.argv[0]).read_text()
    expect(f"{command.argv[0]} does not run {EVENT}", EVENT in words)
    entry.write_text(words.replace(EVENT, str(program)))
    for path in (program, entry):
        path.chmod(0o755)

    def prepare() -> list[Command]:
        log.taken()
        return [Command((str(entry), *command.argv[1:]), command.env)]

    def check() -> None:
        # Whatever goes wrong the exit status is 0, but the log has a line.
        said = log.taken()
        expect("it was to end there", not said, *said)

    return Row(prepare, check)


def adopted(number_up: int) -> dict[str, Row]:
    """Links that no configuration names: table, rules and group."""
    log = Log()
    CONFIG.write_text("")
    os.utime(CONFIG, (1_700_000_000.5, 1_700_000_000.5))
    lines = [Ppp(number) for number in range(number_up)]
    for number, line in enumerate(lines):
        ip(*line.add(), f"route add default dev {line.name} metric {10 + number}")
    for line in lines:
        _settle(up(line))
    tool("/usr/bin/multihook", "sync")
    links = json.loads(tool("/usr/bin/multihook", "status", "--json"))["links"]
    table = next(link["table"] for link in links if link["interface"] == lines[0].name)
    first = Rows(log, lines[0], table, False, metric=10)
    return {"changed": first.changed(), "unchanged": first.unchanged()}


def _settle(command: Command) -> None:
    subprocess.run(command.argv, env=command.env, stdin=subprocess.DEVNULL, check=True)


def bare(times: int = 1) -> Row:
    """The interpreter that does nothing."""
    return Row(lambda: [Command(("/usr/bin/python3", "-IS", "-c", "pass"))] * times, lambda: None)


def storm(number: int) -> dict[str, Row]:
    """That many links get another address, and are told of at once; beside as many interpreters that do nothing."""
    log = Log()
    configure(range(number))
    lines = [Ppp(n) for n in range(number)]
    ip(*(word for line in lines for word in line.add()))
    sync()

    def prepare() -> list[Command]:
        ip(*(word for line in lines for word in line.renumber()))
        log.taken()
        return [up(line) for line in lines]

    def check() -> None:
        kernel = Kernel()
        expect("the rules of all links, and no others", len(kernel.rules) == 3 * number + 3, len(kernel.rules))
        for line in lines:
            kernel.check(line, FIRST_TABLE + line.number, True)
        said = log.taken()
        others = [line for line in said if "(pppd ip-up): 1 snat, 4 rules, 2 routes" not in line]
        expect("a line for each event, and no other", len(said) == number and not others, len(said), *others)
        left = os.listdir("/run/multihook/private/spool")
        expect("an empty spool", not left, left)

    return {"storm": Row(prepare, check), "bare": bare(number)}


def console(number: int) -> dict[str, Row]:
    """`multihook status` where all of that many links are up; beside the import of click alone."""
    Log()
    configure(range(number))
    lines = [Ppp(n) for n in range(number)]
    ip(*(word for line in lines for word in line.add()))
    sync()
    return {
        "status": _says(("/usr/bin/multihook", "status"), rf"{number} of {number} links are up\. The kernel agrees"),
        "import click": _says(("/usr/bin/python3", "-c", "import click"), ""),
    }


def _says(argv: tuple[str, ...], pattern: str) -> Row:
    def check() -> None:
        said = Path(OUTPUT).read_text()
        expect(f"{' '.join(argv)}: other words", re.search(pattern, said), said[-500:])

    return Row(lambda: [Command(argv)], check)

