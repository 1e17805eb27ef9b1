"""A house with five lines and an office, for tests that ask what is left after anything at all has happened to it.

    dsl    ppp0           by its interface           tel    ppp1 or ppp2   by ipparam, whichever unit it gets
    cable  wan1           DHCP                       spare  wan3           DHCP, on the same segment as cable
    fibre  wan2           ifupdown, static

Now and then somebody dials in, whose session is no line, and gets the unit that tel does not have just then.
"""

from __future__ import annotations

import json
import pprint
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from state import RUN, SPOOL, VAR

from world import World
from world.observe import steady
from world.ppp import EVENT, PEER, Session
from world.wire import Wire

MULTILINK, GLFTPD = Path("/etc/multilink.conf"), Path("/etc/glftpd.conf")
NOTIFY = Path("/etc/multihook/notify.d")
THEIRS = b"# glFTPd\nsitename_long\tMy[:space:]Site\nshutdown\t0\n"

SESSIONS = [f"203.0.113.{n}" for n in range(10, 14)]  # of both sessions: an address may change hands
LEASES = [f"198.51.100.{n}" for n in range(100, 104)]  # of both cards on the segment
STATICS = ["192.0.2.7", "192.0.2.8"]
GUEST, GUEST_ADDRESS, GUEST_PEER = "guest", "10.88.0.1", "10.88.0.2"
RANGE, IN_RANGE = "192.0.2.32/28", "192.0.2.33"
LINES = ("ppp0", "ppp1", "ppp2", "wan1", "wan2", "wan3")
CARDS = {"cable": "wan1", "fibre": "wan2", "spare": "wan3"}
GATEWAYS = {"wan1": "198.51.100.1", "wan2": "192.0.2.1", "wan3": "198.51.100.1"}
METRICS = {"wan1": 100, "wan2": 200, "wan3": 300}
PROTOCOL, GROUPS = "109", ("109", "110")
OPTIONS = ("rp_filter", "src_valid_mark", "arp_ignore", "arp_announce", "arp_filter")

CONFIGURATION = """
[link.dsl]
interface = "ppp0"
table = 200
[link.tel]
ipparam = "tel"
table = 201
[link.cable]
interface = "wan1"
gateway = "198.51.100.1"
table = 202
[link.fibre]
interface = "wan2"
gateway = "192.0.2.1"
table = 203
[link.spare]
interface = "wan3"
gateway = "198.51.100.1"
table = 204
[glftpd]
"""
# Of somebody else; what /etc/nftables.conf has.
FIREWALL = (
    "table inet filter { set busy { type ipv4_addr; elements = { 192.0.2.250 }; };"
    ' chain input { type filter hook input priority 0; policy accept; iifname "ppp9" drop; }; }'
)
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# What long tests did, for the last lines of pytest's report (conftest.py).
REPORT: list[str] = []


class Tidings(NamedTuple):
    """What a program tells its hooks: by Debian's own entry point, and what that runs in the end."""

    words: list[str]
    direct: list[str]
    env: dict[str, str]


class House:
    """The lines, what is told of them, and what there is of ours and of others."""

    def __init__(self, world: World, configuration: str = CONFIGURATION) -> None:
        """All lines are up and in line; the default route is the session's."""
        self.world, self.box = world, world.box
        isp = world.provider("isp", "203.0.113.0/24")
        cable = world.provider("cable", "198.51.100.0/24")
        cable.switch("wan1", "wan3")
        cable.hand_out("switch", LEASES)
        fibre = world.provider("fibre", "192.0.2.0/24", wire="wan2")
        fibre.hand_out("wan2", [*STATICS, RANGE])
        lan = world.lan()
        self.office = lan.office("10.0.0.0/8")
        self.lan = lan
        self.isp = isp
        for path in (MULTILINK, *Path("/etc").glob("glftpd.conf*")):
            path.unlink(missing_ok=True)
        GLFTPD.write_bytes(THEIRS)
        self.sessions: dict[str, Session] = {}
        for line, address in (("dsl", SESSIONS[0]), ("tel", SESSIONS[1])):
            self.connect(line, f"ppp{len(self.sessions)}", address)
        for card, address in (("wan1", LEASES[0]), ("wan3", LEASES[1]), ("wan2", STATICS[0])):
            self.put_on(card, address)
        self.box.ip(f"addr add {IN_RANGE}/32 dev lo")
        self._foreign_things()
        world.configure(configuration)
        self.sync()
        self.tell_all()
        self.sync()
        self.wire = Wire(world, LINES, lan.ns, strangers=frozenset((GUEST_ADDRESS,)))

    def close(self) -> None:
        """Before the world is."""
        self.wire.close()
        for path in (MULTILINK, *Path("/etc").glob("glftpd.conf*")):
            path.unlink(missing_ok=True)

    # -- lines --

    def connect(self, line: str, unit: str, address: str) -> None:
        """A session of that line with a new interface; none of it may be there any more."""
        more = {"defaultroute": True} if line == "dsl" else {"ipparam": line}
        peer, provider = (GUEST_PEER, None) if line == GUEST else (PEER, self.isp)
        self.sessions[line] = self.world.ppp_up(unit, address, peer, provider, event=False, **more)

    def is_there(self, line: str) -> bool:
        """Whether the session's interface is."""
        return line in self.sessions and self.sessions[line].is_there

    def unit(self, line: str, number: int) -> str:
        """The interface that pppd would get for a session: that number, or the other where somebody has it."""
        taken = {other.interface for name, other in self.sessions.items() if name != line and other.is_there}
        return "ppp0" if line == "dsl" else next(u for u in (f"ppp{number}", f"ppp{3 - number}") if u not in taken)

    def has_address(self, line: str) -> bool:
        """Whether the session's address is."""
        session = self.sessions[line]
        return session.local in self.box.addresses(session.interface)

    def put_on(self, card: str, address: str) -> None:
        """That address alone, with a default route by the card; nothing is told of it."""
        self.box.ip(
            f"link set {card} up",
            f"addr flush dev {card} scope global",
            f"addr add {address}/24 dev {card}",
            f"route replace default via {GATEWAYS[card]} dev {card} metric {METRICS[card]}",
        )

    def take_off(self, card: str) -> None:
        """No address is left on the card."""
        self.box.ip(f"addr flush dev {card} scope global")

    def address(self, interface: str) -> str:
        """The first address of an interface, or ""."""
        return next(iter(self.box.addresses(interface)), "")

    # -- what is told --

    def of_session(self, line: str, script: str = "", local: str = "") -> Tidings:
        """What pppd says; the truth unless told otherwise."""
        session = self.sessions[line]
        script = script or ("ip-up" if self.has_address(line) else "ip-down")
        local = local or session.local
        words = [session.interface, session.tty, session.speed, local, session.remote, session.ipparam]
        env = {
            "PATH": _PATH, "ORIG_UID": "0", "PPPLOGNAME": "root", "DEVICE": session.tty, "IFNAME": session.interface,
            "UNIT": session.interface[3:], "IPLOCAL": local, "IPREMOTE": session.remote,
        }  # fmt: skip
        return Tidings([f"/etc/ppp/{script}", *words], [EVENT, "pppd", script, *words], env)

    def of_lease(self, card: str, reason: str = "", new: str = "", old: str = "") -> Tidings:
        """What dhclient-script's exit hooks see; the truth unless told otherwise."""
        if not reason:
            new = self.address(card)
            reason, old = ("RENEW", new) if new else ("EXPIRE", LEASES[0])
        env = {"PATH": _PATH, "reason": reason, "interface": card, "IF_METRIC": str(METRICS[card])}
        if new:
            env |= {"new_ip_address": new, "new_subnet_mask": "255.255.255.0", "new_routers": GATEWAYS[card]}
        if old:
            env |= {"old_ip_address": old}
        return Tidings(["dash", "-c", ". /etc/dhcp/dhclient-exit-hooks.d/multihook"], [EVENT, "dhclient"], env)

    def of_stanza(self, is_up: bool | None = None, address: str = "") -> Tidings:
        """What ifupdown says of fibre; the truth unless told otherwise."""
        there = self.address("wan2")
        is_up = bool(there) if is_up is None else is_up
        env = {
            "PATH": _PATH, "IFACE": "wan2", "LOGICAL": "wan2", "ADDRFAM": "inet", "METHOD": "static",
            "MODE": "start" if is_up else "stop", "PHASE": "post-up" if is_up else "post-down",
            "IF_ADDRESS": address or there or STATICS[0], "IF_NETMASK": "255.255.255.0", "IF_GATEWAY": GATEWAYS["wan2"],
        }  # fmt: skip
        script = "if-up" if is_up else "if-post-down"
        return Tidings([f"/etc/network/{script}.d/multihook"], [EVENT, "ifupdown", script], env)

    def truth(self, line: str) -> Tidings:
        """What the program of a line would say of it now."""
        if line in self.sessions:
            return self.of_session(line)
        return self.of_stanza() if line == "fibre" else self.of_lease(CARDS[line])

    def tell(self, tidings: Tidings) -> None:
        """One run of the real hook, to its end."""
        done = self.box.run(*tidings.words, env=tidings.env)
        assert (done.stdout, done.stderr) == ("", ""), done

    def tell_all(self) -> None:
        """The truth of each line."""
        for line in ("dsl", "tel", "cable", "fibre", "spare"):
            self.tell(self.truth(line))

    def tell_in_background(self, tidings: Tidings) -> subprocess.Popen[str]:
        """The same, and go on meanwhile."""
        null = subprocess.DEVNULL
        return self.box.popen(*tidings.words, env=tidings.env, stdin=null, stdout=null, stderr=null)

    def killed(self, argv: list[str], call: str, number: int, env: dict[str, str] | None = None) -> bool:
        """Run it and kill it as it enters that system call for the `number`th time; False when it never got there."""
        done = self.box.run(
            "/usr/bin/strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
            f"inject={call}:signal=SIGKILL:when={number}", *argv, check=False, env=env,
        )  # fmt: skip
        assert done.returncode in (0, 1, 78, -signal.SIGKILL) and "Traceback" not in done.stderr, done
        return done.returncode == -signal.SIGKILL

    def sync(self) -> str:
        """multihook sync; what it said."""
        done = self.world.multihook("sync")
        assert done.returncode == 0 and "Traceback" not in done.stderr, done
        return str(done.stdout)

    # -- what is ours --

    def ours(self) -> dict[str, Any]:
        """All that is ours, in kernel and files, comparable with ==: nothing in it tells how it came about.

        Table numbers of adopted links are those of whoever came first, so they are called by their interface. Which
        unit tel had last is not told while it is down: its chains are hung there, and nothing leaves by it.
        """
        found: dict[str, Any] = {}
        rules = [
            {"family": family, **rule} for family in (4, 6) for rule in self.box.ip_json(f"-{family}", "rule")
            if str(rule.get("protocol")) == PROTOCOL
        ]  # fmt: skip
        routes = [
            {"family": family, **steady(route)} for family in (4, 6)
            for route in self.box.ip_json(f"-{family}", "route", "show", "table", "all", "proto", PROTOCOL)
        ]  # fmt: skip
        allotted = {str(rule["table"]): rule["oif"] for rule in rules if "oif" in rule and int(rule["table"]) >= 1000}
        for thing in rules + routes:
            table = str(thing.get("table", "main"))
            thing["table"] = allotted.get(table, table)
        found["rules"] = sorted(json.dumps(rule, sort_keys=True) for rule in rules)
        found["routes"] = sorted(json.dumps(route, sort_keys=True) for route in routes)
        links = self.box.ip_json("link")
        found["group"] = sorted((e["ifname"], e["group"]) for e in links if str(e["group"]) in GROUPS)
        found["nft"] = self._nft()
        there = {entry["ifname"] for entry in links} & set(LINES)
        found["sysctls"] = self._sysctls(there)
        found["glftpd"] = GLFTPD.read_bytes()
        found["multilink"] = MULTILINK.read_bytes() if MULTILINK.exists() else b""
        names = Path("/etc/iproute2/rt_tables.d/multihook.conf")
        lines = names.read_text().splitlines() if names.exists() else []
        found["names"] = [line for line in lines if re.match(r"\d{1,3}\s", line)]
        return found

    def _nft(self) -> list[str]:
        done = self.box.run("nft", "-j", "list", "table", "inet", "multihook", check=False)
        if done.returncode:
            return []
        unit = set() if self.has_address("tel") else {"ppp1", "ppp2"}
        if self.is_there(GUEST):
            unit -= {self.sessions[GUEST].interface}
        found = []
        for entry in json.loads(done.stdout)["nftables"]:
            ((kind, value),) = entry.items()
            if kind == "metainfo":
                continue
            value = steady(value)
            if value.get("name") == "stopped4":
                value.pop("elem", None)  # a count of the past
            if "elem" in value:
                there = [e for e in value["elem"] if not (isinstance(e, list) and e[0] in unit)]
                value["elem"] = sorted(there, key=str)
            found.append(json.dumps([kind, value]))
        return found

    def _sysctls(self, interfaces: set[str]) -> dict[str, str]:
        base = Path("/proc/sys/net/ipv4")
        with self.box.entered():
            found = {
                f"{name}.{option}": (base / "conf" / name / option).read_text().strip()
                for name in sorted(interfaces) for option in OPTIONS
            }  # fmt: skip
            found["icmp"] = (base / "icmp_errors_use_inbound_ifaddr").read_text().strip()
        return found

    def ours_on(self, interface: str) -> list[str]:
        """What there is of ours for that interface."""
        found = self.ours()
        things = [*found["rules"], *found["routes"], *map(json.dumps, found["group"]), *found["nft"]]
        changed = [f"{name} = {value}" for name, value in self.set_by_us(found).items()]
        named = f'"{interface}"'
        return [thing for thing in things if named in thing] + [one for one in changed if one.startswith(f"{interface}.")]

    def set_by_us(self, found: dict[str, Any]) -> dict[str, str]:
        """Those sysctls in an answer of ours() that are not as a new interface has them."""
        with self.box.entered():
            default = {o: Path(f"/proc/sys/net/ipv4/conf/default/{o}").read_text().strip() for o in OPTIONS}
        values = found["sysctls"].items()
        return {name: value for name, value in values if value != default.get(name.partition(".")[2], "0")}

    def wipe(self) -> None:
        """As at a fresh boot, with the same addresses: nothing of ours is left anywhere. Done without the product."""
        self.world.settle()  # who is still told of news writes them down
        for family in ("-4", "-6"):
            self.box.run("ip", family, "rule", "flush", "protocol", PROTOCOL)
            self.box.run("ip", family, "route", "flush", "table", "all", "protocol", PROTOCOL, check=False)
        links = self.box.ip_json("link")
        self.box.ip(*(f"link set {entry['ifname']} group 0" for entry in links))
        self.box.run("nft", "delete", "table", "inet", "multihook", check=False)
        base = Path("/proc/sys/net/ipv4")
        with self.box.entered():
            for name in {entry["ifname"] for entry in links} & set(LINES):
                for option in OPTIONS:
                    (base / "conf" / name / option).write_text((base / "conf/default" / option).read_text())
            (base / "icmp_errors_use_inbound_ifaddr").write_text("0")
        for path in (MULTILINK, *Path("/etc").glob("glftpd.conf*")):
            path.unlink(missing_ok=True)
        GLFTPD.write_bytes(THEIRS)
        for folder in (RUN, VAR):
            lose(folder)
        for path in Path("/etc/iproute2").glob("*/multihook.conf"):
            path.unlink()
        left = self.ours()
        assert not (left["rules"] or left["routes"] or left["group"] or left["nft"]), left

    # -- what is not ours --

    def _foreign_things(self) -> None:
        """They stand all the time, whatever else happens to the house."""
        before = self.world.snapshot(ours=False)
        self.box.ip(
            "addr add 10.77.0.9/32 dev lo",
            "rule add from 10.77.0.9 lookup 77 priority 500",
            "rule add fwmark 0x7 lookup 77 priority 7300",
            "rule add from 10.78.0.0/16 lookup main priority 9000 protocol static",
            f"route add default via {self.lan.router} dev lan0 table 77",
            "route add unreachable 172.31.0.0/16",
            f"route add 172.30.0.0/16 via {self.lan.router} dev lan0 proto static",
        )
        self.box.nft(FIREWALL)
        there = self.world.snapshot(ours=False)
        self._theirs = {part: [one for one in there[part] if one not in before[part]] for part in there}
        assert all(self._theirs[part] for part in ("rules4", "routes4", "addresses", "nft")), self._theirs

    def foreign(self) -> dict[str, Any]:
        """All that others own, and what the kernel answers to them."""
        found = self.world.snapshot(ours=False)
        get = self.world.route_get
        found["answers"] = {
            words: get(*words.split()).replace(" cache", "").split()
            for words in (
                "198.18.0.10", "198.18.0.10 from 10.77.0.9", "198.18.0.10 mark 7", self.office, "172.30.0.1",
                "172.31.0.1", "10.66.0.1", f"198.18.0.10 from {self.lan.host} iif lan0",
                f"{self.office} from {self.lan.host} iif lan0",
                f"172.30.0.1 from {self.lan.host} iif lan0", "192.168.1.10", "10.99.0.1 from 10.77.0.9",
            )
        }  # fmt: skip
        return found

    def damaged(self, found: dict[str, Any]) -> dict[str, list[Any]]:
        """What others have all the time and is not in an answer of foreign() as it was."""
        lost = {part: [one for one in things if one not in found[part]] for part, things in self._theirs.items()}
        return {part: things for part, things in lost.items() if things}

    # -- what is left --

    def leftovers(self) -> list[str]:
        """Events that wait, files half written, processes that nobody waits for."""
        waiting = [path.name for path in SPOOL.iterdir()] if SPOOL.is_dir() else []
        halves = [str(path) for top in (RUN, VAR, Path("/etc/iproute2")) for path in top.rglob("*.new")]
        halves += [str(path) for path in Path("/etc").glob("*.new")]
        return waiting + halves + list(self.world.strays().values())

    def state(self) -> dict[str, tuple[int, int]]:
        """Each file of state as one that was written since can be told: by inode and time."""
        found = {}
        for top in (RUN, VAR, Path("/etc/iproute2"), Path("/etc/multilink.conf"), GLFTPD):
            for path in [top, *top.rglob("*")]:
                if path.is_file() and path.name != "lock":  # which says who has it
                    status = path.stat()
                    found[str(path)] = (status.st_ino, status.st_mtime_ns)
        return found


def lose(folder: Path) -> None:
    """All that is in a folder, which itself stays; what a hook makes or takes away meanwhile is its own affair."""
    for inner in list(folder.iterdir()) if folder.is_dir() else ():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner, ignore_errors=True)
        else:
            inner.unlink(missing_ok=True)


def difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What two answers of ours() or foreign() do not have in common, short enough to be read."""
    found: dict[str, Any] = {}
    for key in one.keys() | other.keys():
        left, right = one.get(key), other.get(key)
        if left != right:
            if isinstance(left, list) and isinstance(right, list):
                found[key] = ([x for x in left if x not in right], [x for x in right if x not in left])
            elif isinstance(left, dict) and isinstance(right, dict):
                found[key] = difference(left, right)
            else:
                found[key] = (left, right)
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Of two answers of ours(), foreign() or state(); what is not the same is printed, and nothing else."""
    found = difference(one, other)
    assert not found, "(before, after) of what is not the same:\n" + pprint.pformat(found, width=180)
