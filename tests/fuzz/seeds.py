"""Where fuzzing starts from: what clients really passed (tests/captures), the configurations we ship, the answers of a
painted kernel, and our own files as we write them."""

import re
import sys
from pathlib import Path
from struct import pack
from typing import Any

from targets.surroundings import SEPARATOR

from multihook import leases, record
from multihook.address import INET
from multihook.kernel import facts, interfaces, nftables, routes, rules
from multihook.kernel.rtnetlink import Door
from multihook.sources import VARIABLES

TESTS = Path(__file__).resolve().parent.parent
TOP = TESTS.parent
sys.path.append(str(TESTS / "plain"))  # behind everything: only the painted kernel is wanted of it

from painted_kernel import Painted, Socket, attribute, message, painted  # noqa: E402

# Where the environment begins that a hook of each was started with.
SAID = {
    "ppp": "# --- environment of the .d script",
    "dhclient": "# --- environment dhclient gave to dhclient-script",
    "dhcpcd": "# --- environment dhcpcd gave to dhcpcd-run-hooks",
    "ifupdown": "# --- environment of the script",
}


def seeds() -> dict[str, list[bytes]]:
    """Inputs by target; those that say the same once."""
    found: dict[str, list[bytes]] = {
        "address": [
            b"192.0.2.32/28", b"192.0.2.33 192.0.2.32/28", b"2001:db8::/32", b"2001:db8::7 2001:db8::/32", b"fe80::1",
            b"::ffff:192.0.2.1", b"255.255.240.0", b"ppp0", b"dsl-2", b"0x100", b"1234567", b"169.254.1.1", b"::",
            b"192.0.2.33/28", b"2001:db8::/129", b"c*", b"01.2.3.4", b"fe80::1%eth0", b"1.2.3", b"255.0.255.0", b"main",
        ],
        "lease": [lease()],
        "spool": spooled(),
        "state": state(),
        "glftpd": glftpd(),
        "code": [
            which + damage for which in (b"i", b"c")
            for damage in (b"", b"s\0\x90x", b"t\0\x80\0", b"m\0\0\x12", b"o\0\0\0", b"l\0\0\0", b"d\0\1\7", b"i\0\0\0")
        ],
        "configuration": configurations(),
        "machine": machines(),
        "last-good": [
            b'{"format": 2, "version": "0.1.0", "document": {}}',
            b'{"document": {"multihook": {"adopt": true}, "link": {"dsl": {"interface": "ppp0", "table": 200}}}}',
            b'{"document": {"link": {"a": {"ipparam": "x", "sources": ["192.0.2.32/28"]}}, "glftpd": {"lan": ["10.*"]}}}',
            b"{}", b"[]", b"1", b"\xff", b"{", b'{"document": 1}', b'{"document": {"link": null}}', b"[" * 2000,
        ],
    }  # fmt: skip
    for source in ("pppd", "dhclient", "dhcpcd", "ifupdown"):
        found[source] = captured(source) + hostile(source)
    found |= answers()
    return {name: list(dict.fromkeys(inputs)) for name, inputs in found.items()}


def captured(source: str) -> list[bytes]:
    """What each capture shows that a hook of this source was started with, as targets/environment.py has it."""
    program = source.removesuffix("d") if source == "pppd" else source
    found = []
    for path in sorted((TESTS / "captures").rglob(f"{program}-*.env")):
        lines = path.read_text().splitlines()
        words = []
        if source in ("pppd", "ifupdown"):
            words.append(lines[0].split()[2])
        words += [match[1] for line in lines if (match := re.fullmatch(r"# arg \d '(.*)'", line))]
        words.append("")
        for line in lines[lines.index(SAID[program]) + 1 :]:
            if line.startswith("# ---"):
                break
            variable = line.removeprefix("#  ")
            if variable.partition("=")[0] in VARIABLES[source]:
                words.append(variable)
        found.append("\0".join(words).encode())
    return found


def hostile(source: str) -> list[bytes]:
    """What no client of good will passes on."""
    if source == "pppd":
        events = [
            ("ip-up", "ppp0", "t", "0", "203.0.113.45", "192.0.2.1", "\x1b[2J"), ("ip-up", "c*", "t", "0", "1.2.3.4", "0"),
            ("ip-up", "ppp0", "t", "0", "127.0.0.1", "0", "x" * 300), ("ip-up", "ppp0"), ("ip-\nup", "ppp0"), (),
        ]  # fmt: skip
        return ["\0".join((*words, "", "LINKNAME=a\nb", "DNS1=x", "DNS2=::1")).encode() for words in events]
    if source == "ifupdown":
        stanza = "\0ADDRFAM=inet\0METHOD=static\0IF_ADDRESS=192.0.2.7/24\0IF_GATEWAY="
        return [
            f"if-up\0\0IFACE=c*{stanza}192.0.2.1".encode(), f"if-up\0\0IFACE=eth0{stanza}192.0.2.7".encode(),
            f"if-up\0\0IFACE=eth0:1{stanza}\x1b 224.0.0.1 169.254.1.1".encode(),
        ]  # fmt: skip
    many = " ".join(f"192.0.2.{number}" for number in range(1, 10))
    if source == "dhclient":
        name, options = "new_rfc3442_classless_static_routes", [
            "24 10 1 2 192 0 2 1", "20 10 1 255 192 0 2 1", "33 1 2 3 4 5 192 0 2 1", " ".join(["8 10 192 0 2 1"] * 40),
            "0 192 0 2 1", "8 224 192 0 2 1", "24 10 1", "x", "1" * 5000,
        ]  # fmt: skip
    else:
        name, options = "new_classless_static_routes", [
            "10.1.2.3/16 192.0.2.1", "10.0.0.0/33 192.0.2.1", " ".join(["10.0.0.0/8 192.0.2.1"] * 40), "0.0.0.0/0 192.0.2.7",
            "224.0.0.0/4 192.0.2.1", "10.0.0.0/8", "::/0 ::1", "x",
        ]  # fmt: skip
    variables = f"\0reason=BOUND\0interface=eth0\0new_ip_address=192.0.2.7\0new_routers={many}\0new_domain_name_servers={many}"
    return [
        *(f"{variables}\0{name}={option}".encode() for option in options), b"\0reason=BOUND\0interface=c*\0",
        b"\0reason=\x1b\0interface=eth0", b"\0reason=EXPIRE\0interface=eth0\0old_ip_address=\xff\nx",
    ]  # fmt: skip


def configurations() -> list[bytes]:
    """What we ship, the comments in use; and each kind of mistake."""
    shipped = (TOP / "etc/multihook/multihook.toml").read_text()
    used = "\n".join(line.removeprefix("# ") for line in shipped.splitlines() if re.match(r"# (\[|[a-z_]+ += )", line))
    examples = [path.read_bytes() for path in sorted((TOP / "debian/examples").glob("*.toml"))]
    tables = b"200\tdsl\n0x20 other\n255 local\n"
    drop_in = b'[link.lte]\ninterface = "wwan0"\ntable = 0x100\n'
    one = b'[link.dsl]\ninterface = "ppp0"\n'
    return [
        b"", used.encode(), *(re.sub(rb"(?m)^#.*\n", b"", text) for text in examples),
        one + SEPARATOR + drop_in, one + b"table = 200" + SEPARATOR + SEPARATOR + tables,
        b"\xef\xbb\xbf" + one.replace(b"\n", b"\r\n"), b"link = 1", b"[link.dsl]\n", b"[link.main]\ninterface='all'",
        b"[multihook]\nmark_mask = 0x5\nrt_proto = 2\ngroup = true\nignore = ['wg*']\nfirst_table = 1e3",
        b"[link.a]\ninterface='x'\nsources=['192.0.2.1/24','0.0.0.0/0']\ngateway='127.0.0.1'\nsnat='true'",
        b"[glftpd]\nconfig = '/a'\nmultilink = '/a'\nlan = ['x']\n[link]\nlink.x = 2", b"a.b.c.d.e = 1\n[a.b]\n",
        *(b"[multihook]\n" + line for line in (b"mark_mask = 0x5", b"rt_proto = 2", b"ignore = 5", b"ignore = ['/']", b"x = 1")),
        *(one + line for line in (b"sources = ['192.0.2.1/24']", b"gateway = '::'", b"ipparam = 'x'", b"table = 254", b"snat = 1")),
        b"x", b"x = ", b"x = 'a", b"\xff", b"a\0", b"[a]\n[a]", b"x = " + b"[" * 2000, b"x = " + b"9" * 5000, b"a." * 200,
        b"[link.all]\ninterface = 'ppp0'", one + b"[link.x]\ninterface = 'ppp0'", one + b"table = 32" + SEPARATOR + SEPARATOR + tables,
    ]  # fmt: skip


def machines() -> list[bytes]:
    """What doctor finds something in, and what it finds nothing in."""
    nat = (
        b'j{"nftables": [{"chain": {"family": "ip", "table": "nat", "name": "post", "type": "nat", "hook": "postrouting"}},'
        b'{"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": 7, "expr": [{"masquerade": null}]}},'
        b'{"rule": {"family": "ip", "table": "a", "chain": "b", "expr": [{"mangle": {"key": {"meta": {"key": "mark"}},'
        b'"value": 4278190080}}]}}, {"flowtable": {"family": "inet", "name": "f", "table": "t", "dev": ["eth1"]}}]}'
    )
    return [
        b"iauto lo\niface dsl inet ppp\n  provider dsl-x\niface eth0 inet static\n gateway 192.0.2.1\niface eth1 inet static\n"
        b" gateway 192.0.2.2\nsource interfaces.d/*\n", b"pipparam 'dsl2'\nlinkname x\n" + SEPARATOR + b"oipparam \"dsl\"\n",
        b"lexit\n" + SEPARATOR + b"uexec /etc/ppp/ip-up.local\n", b'dscript "/x y";\n', b"rip rule add from 1.2.3.4 table x\n",
        b"rip rule flush; nft flush ruleset\n", b"eexit 0\n", b"nflush ruleset\n", b'ninclude "/etc/nft.d/*.nft"\n',
        b"snet.ipv4.ip_forward=1\n" + SEPARATOR + b"vID=debian\nVERSION_ID=13\n", b"gsitename x\n", b"ginclude /etc/multilink.conf\n",
        b"a0multi hook.sh", b"a$(reboot).sh", b"wa 1 2 main eth1\n", b"kvirtual_routes {\n}\n", b"tCapEff:\t00\n", nat,
        b"iiface a\x1b inet ppp\n provider x\x1b[2J\n", b"j{", b"j[1]", b"xone\ntwo\x1b[2J\n" + b"\n" * 9, b"yError: x\x1b[1m\nmore", b"y", b"c[Network]\nDHCP=yes\n",
    ]  # fmt: skip


def lease() -> bytes:
    """A record with all there can be."""
    one = leases.Lease("dsl", "ppp0", INET)
    one.address, one.former, one.gateway = bytes((203, 0, 113, 45)), bytes((203, 0, 113, 7)), bytes((192, 0, 2, 1))
    one.server, one.resolvers = bytes((10, 80, 0, 1)), [bytes((10, 80, 0, 53))]
    one.routes = [(bytes((192, 0, 2, 0)), 24, bytes((10, 80, 0, 1)))]
    one.source, one.reason, one.ipparam, one.linkname = "pppd", "ip-up", "isp", "l1"
    one.since, one.changed, one.prefixlen, one.by_default = 12, 14, 32, True
    return one.render().encode()


def spooled() -> list[bytes]:
    """Events as they wait (see spool.py)."""
    words = ["multihook event 1", "pppd", "7 1", "ip-up", "ppp0", "wan1", "0", "203.0.113.45", "192.0.2.1", "isp"]
    bound = ["multihook event 1", "dhclient", "0 3", "reason=BOUND", "interface=wan0", "new_ip_address=10.80.0.50"]
    whole = ["\0".join([*listed, "end"]).encode() for listed in ([*words, "LINKNAME=l1"], bound)]
    return [*whole, whole[0][:-1], whole[0][:-4], whole[1].replace(b"0 3", b"0 4"), whole[1].replace(b"dhclient", b"\x1b")]


def state() -> list[bytes]:
    """One of each of the other files."""
    words = ("LINK=dsl", "INTERFACE=ppp0", "FAMILY=inet", "STATE=up", "OLD_ADDRESS=", "ADDRESS=203.0.113.45", "GATEWAY=",
             "TABLE=200", "SOURCE=pppd", "REASON=ip-up")  # fmt: skip
    news = "".join(f"MULTIHOOK_{word}\n" for word in words)
    return [
        record.Certificate("aaaa-bbbb", 4026531840, "abcdef", 109, 109, 2, "12-34").render().encode(),
        b"multihook last 1\nok\n1700000000\n1234\ndsl: - -> 203.0.113.45\nend\n",
        f"multihook news 1\n{news}end\n".encode(), b"multihook told 1\nup\nppp0\n203.0.113.45\n192.0.2.1\n200\nend\n",
        b"# comment\ndsl 1000\neth1 1001\n", b"multihook connections 1\ndsl 203.0.113.45\nend\n",
        b"multihook glftpd 1\nplace /etc/glftpd.conf\t/etc/multilink.conf\nbackup /etc/glftpd.conf.multihook-backup\n",
        b"multihook sysctls 1\nindex 3\nrp_filter 1\narp_announce 0\nend\n", b"123 4\n77 1\n", b"7000: from all\n",
        b"12345678-1234 100\n",
    ]


def glftpd() -> list[bytes]:
    """Both files: as we leave them, as administrators write them, cut off."""
    block = b"# multihook: link cable\nactive_addr 198.51.100.9\npasv_addr 198.51.100.9\n# multihook: end of cable\n"
    begin, end = b"# multihook: begin; what stands between here and the end is rewritten\n", b"# multihook: end\n"
    ours = begin + b"ifip 10.* 192.168.*\nelseip\n" + block + b"endifip\n" + end
    config = b"include /etc/multilink.conf\nsitename x\n"
    return [
        ours + SEPARATOR + config, (b"# mine\n" + ours + b"# more\n").replace(b"\n", b"\r\n") + SEPARATOR + b"a\r\nb",
        b"active_addr 192.0.2.1\n" + SEPARATOR + b" include  /etc/multilink.conf # x\n\xff\n", begin + block[:40],
        ours + b"between\n" + ours + b"tail" + SEPARATOR + b"include /etc/other.conf\n", begin + b"foreign\n" + begin + block + end, SEPARATOR + b"#include x\n",
    ]  # fmt: skip


# --- what the kernel answers ---


class Recorder(Socket):
    """A painted kernel's socket that keeps what it gave, the sequence numbers aside."""

    def __init__(self, kernel: Painted, protocol: int, kept: list[bytes]) -> None:
        super().__init__(kernel, protocol)
        self._kept = kept

    def recv(self, size: int) -> bytes:
        """As recv(2)."""
        data = super().recv(size)
        offset, plain = 0, bytearray(data)
        while offset + 16 <= len(data):
            plain[offset + 8 : offset + 12] = bytes(4)
            offset += int.from_bytes(data[offset : offset + 4], sys.byteorder) + 3 & ~3
        self._kept.append(bytes(plain))
        return data


class Recording:
    """Doors to a painted kernel, and what came through them."""

    def __init__(self, kernel: Painted) -> None:
        self._kernel = kernel
        self._kept: list[bytes] = []

    def make(self, *words: Any) -> Any:
        """As _socket.socket."""
        return Recorder(self._kernel, words[-1], self._kept)

    def taken(self) -> bytes:
        """All since the last time, as the targets take it."""
        data = SEPARATOR.join(self._kept)
        self._kept.clear()
        return data


def answers() -> dict[str, list[bytes]]:
    """A dump of each kind, changes made and refused."""
    kernel = painted()
    kernel.route("default", table=200, protocol=109, kind=7, metric=4294967295)
    kernel.route("192.0.2.0/24", "eth1", via="198.51.100.1", table=200, protocol=109, mtu=1400, tos=16, onlink=True)
    kernel.rule(100, 51820, mark=(0xCA6C, 0xFFFFFFFF), inverted=True)
    kernel.rule(7400, 200, "198.51.100.7", protocol=109)
    kernel.rule(32766, 254, suppress=1, iif="eth1")
    recording = Recording(kernel)
    door = Door(recording.make)
    found: dict[str, list[bytes]] = {"rtnetlink": [], "facts": [], "routes": [], "rules": [], "nftables": []}
    seen = facts.Facts(door)
    seen.defaults(INET)
    for interface in seen.interfaces.values():
        seen.main_by(interface, INET)
    interfaces.names_in_group(door, 7)
    interfaces.vrf_tables(door)
    found["facts"].append(recording.taken())
    routes.dump(door, INET, table=200)
    routes.tables_of(door, INET, 109)
    routes.dump_defaults(door, INET)
    routes.has_default(door, INET, 200)
    found["routes"].append(recording.taken())
    rules.Dump(door, INET)
    listed = recording.taken()
    found["rules"].append(listed)
    refused = pack("=i", -22) + bytes(16) + attribute(1, b"Invalid prefsrc address\0")
    found["rtnetlink"] += [
        b"d" + listed, b"g" + message(16, 0, 0, bytes(16)), b"c" + message(2, 0x100, 0, bytes(20)),
        b"c" + message(2, 0x300, 0, refused), b"a" + message(2, 0x100, 0, bytes(20)),
        b"d" + message(3, 2, 0, pack("=i", -2)), b"d" + listed.replace(b"\2\0\0\0", b"\x12\0\0\0", 1) + SEPARATOR + listed,
    ]  # fmt: skip
    found["nftables"] = nftables_answers()
    found["conntrack"] = conntrack_answers()
    return found


def nftables_answers() -> list[bytes]:
    """Our table with an element of each kind."""
    kernel = Painted()
    text = (
        "add table inet multihook\nadd map inet multihook snat4 { x }\nadd map inet multihook guard4 { x }\n"
        "add set inet multihook sources4 { x }\nadd set inet multihook stopped4 { x }\n"
        "add chain inet multihook guard { type filter hook postrouting priority 110; policy accept; }\n"
        'add chain inet multihook stop4\nadd rule inet multihook stop4 drop comment "and dropped [x]"\n'
        'add element inet multihook snat4 { "ppp0" : 203.0.113.45 }\n'
        'add element inet multihook guard4 { "ppp0" : goto stop4 }\n'
        'add element inet multihook sources4 { "ppp0" . 192.0.2.32-192.0.2.47 }\n'
        'add element inet multihook stopped4 { "ppp0" counter packets 3 bytes 180 }\n'
    )
    for line in text.splitlines():
        kernel.nft._load(line)
    recording = Recording(kernel)
    door = nftables.Door(recording.make)
    door.ruleset("multihook")
    found = [b"r" + recording.taken()]
    for name in ("snat4", "guard4", "sources4"):
        list(door.elements("multihook", name))
        found.append(b"e" + recording.taken())
    door.find("multihook", nftables.Element("snat4", nftables.ifname("ppp0")))
    found.append(b"f" + recording.taken())
    door.counters("multihook", "stopped4")
    found.append(b"c" + recording.taken())
    door.commit("multihook", [nftables.Element("snat4", nftables.ifname("ppp0"))], [])
    found.append(b"w" + recording.taken())
    return found


def conntrack_answers() -> list[bytes]:
    """One entry translated to the address that is asked for, one from it, and the answer to a deletion."""
    lan, far, ours = bytes((192, 168, 1, 10)), bytes((198, 18, 0, 1)), bytes((203, 0, 113, 45))

    def entry(original: tuple[bytes, bytes], reply: tuple[bytes, bytes]) -> bytes:
        body = bytes((2, 0, 0, 0))
        for kind, (source, destination) in ((0x8001, original), (0x8002, reply)):
            body += attribute(kind, attribute(0x8001, attribute(1, source) + attribute(2, destination)))
        return message(0x100, 2, 0, body + attribute(3, pack(">I", 0x19E)) + attribute(12, b"\0\0\0\7"))

    done = message(3, 2, 0, bytes(4))
    both = entry((lan, far), (far, ours)) + entry((far, ours), (lan, far))
    deleted = message(2, 0x100, 0, bytes(20))
    return [
        b"f" + SEPARATOR.join((both, done, deleted, deleted)), b"f" + done,
        b"m" + SEPARATOR.join((both, done, both, both, done, deleted, deleted)),
    ]  # fmt: skip
