"""Every refusal of the configuration with its message, every default, and what is only remarked on."""

from pathlib import Path
from typing import Any

import pytest
from config_machine import Machine, make_machine

from multihook.config import schema, tables, toml


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return make_machine(tmp_path, monkeypatch)


LINK = '[link.dsl]\ninterface = "ppp0"\n'
OTHER = '[link.b]\ninterface = "eth1"\n'
TOP = "[multihook]\n"
NOBODY: "tables.Others" = ({}, {}, {}, set())


def build(machine: Machine, text: str, others: Any = NOBODY) -> tuple[schema.Config, list[str]]:
    """The configuration that a multihook.toml means."""
    machine.write(text)
    return schema.build(toml.read(toml.installed()), others)


def refusal(machine: Machine, text: str, others: Any = NOBODY) -> list[str]:
    """What is said about a wrong one, without the name of the file."""
    with pytest.raises(toml.Refused) as caught:
        build(machine, text, others)
    lines = [problem.line() for problem in caught.value.problems]
    assert all(line.startswith(f"{machine.settings}: ") for line in lines)
    assert all(line.isprintable() and line.isascii() for line in lines)
    return [line.removeprefix(f"{machine.settings}: ") for line in lines]


REFUSED = [
    # What is where it does not belong.
    ("x = 1", "x: unknown key; keys stand under one of [multihook], [link.NAME], [glftpd]"),
    ("adopt = false", "adopt: unknown here; it belongs under [multihook]"),
    ("interface = 'x'", "interface: unknown here; it belongs under [link.NAME]"),
    ("[links.dsl]", "links: unknown table; did you mean link?"),
    ("[steering]", "steering: unknown table; known are multihook, link, glftpd"),
    ("[link]\ntable = 5", "link.table: a key where a link's name belongs; write it under [link.NAME]"),
    (TOP + "adpot = true", "multihook.adpot: unknown key; did you mean adopt?"),
    (TOP + "Rule-Base = 5", "multihook.Rule-Base: unknown key; did you mean rule_base?"),
    (
        TOP + "xyz = true",
        ("multihook.xyz: unknown key; "
        "known are adopt, ignore, first_table, rule_base, mark_mask, rt_proto, group"),
    ),
    (LINK + "tabel = 200", "link.dsl.tabel: unknown key; did you mean table?"),
    (LINK + '"a\\u0007b" = 1', ('link.dsl."a\\x07b": unknown key; known are interface, ipparam, linkname, table, '
     "gateway, lan, snat, sources, networks")),
    ("[glftpd]\nmultilnk = ''", "glftpd.multilnk: unknown key; did you mean multilink?"),
    # What is no table.
    ("multihook = 5", "multihook: 5 is no table; write [multihook] and its keys below"),
    ("link = 5", "link: 5 is no table; write [link.NAME] for each link"),
    ("[[link]]\na = 1", "link: a list is no table; write [link.NAME] for each link"),
    ("[[link.dsl]]\na = 1", "link.dsl: a list is no table; write [link.dsl] and its keys below"),
    ("[link]\nfoo = 5", "link.foo: 5 is no table; write [link.foo] and its keys below"),
    ("glftpd = true", "glftpd: true is no table; write [glftpd] and its keys below"),
    # Types: a truth value is no number, a number no truth value, nothing is what its text says.
    (TOP + "adopt = 1", "multihook.adopt: 1 is neither true nor false; write one of these, without quotes"),
    (TOP + 'adopt = "true"', 'multihook.adopt: "true" is neither true nor false; write one of these, without quotes'),
    ("[multihook.adopt]", "multihook.adopt: a table is neither true nor false; write one of these, without quotes"),
    (LINK + 'lan = "no"', 'link.dsl.lan: "no" is neither true nor false; write one of these, without quotes'),
    (LINK + "table = true", "link.dsl.table: true is no whole number; write one such as 200, without quotes"),
    (LINK + 'table = "dsl"', 'link.dsl.table: "dsl" is no whole number; write one such as 200, without quotes'),
    (LINK + "table = 200.0", "link.dsl.table: 200.0 is no whole number; write one such as 200, without quotes"),
    (TOP + "first_table = true", ("multihook.first_table: true is no whole number; "
     "write one such as 1000, without quotes")),
    (TOP + "rule_base = false", ("multihook.rule_base: false is no whole number; "
     "write one such as 7000, without quotes")),
    (TOP + 'mark_mask = "0xff"', ('multihook.mark_mask: "0xff" is no whole number; '
     "write one such as 0xff000000, without quotes")),
    (TOP + "rt_proto = true", "multihook.rt_proto: true is no whole number; write one such as 109, without quotes"),
    (TOP + "group = 1979-05-27", ("multihook.group: a date or time is no whole number; "
     "write one such as 109, without quotes")),
    (TOP + 'ignore = "wg*"', 'multihook.ignore: "wg*" is no list; write ["wg*"]'),
    (TOP + "ignore = [1]", 'multihook.ignore: 1 is no text; write it in quotes, such as "wg*"'),
    (LINK + "gateway = 5", 'link.dsl.gateway: 5 is no text; write it in quotes, such as "192.0.2.1"'),
    (LINK + 'sources = "192.0.2.0/28"', 'link.dsl.sources: "192.0.2.0/28" is no list; write ["192.0.2.32/28"]'),
    (LINK + 'networks = [["10.0.0.0/8"]]', ("link.dsl.networks: a list is no text; "
     'write it in quotes, such as "192.0.2.32/28"')),
    ("[link.a]\ninterface = 5", 'link.a.interface: 5 is no text; write it in quotes, such as "ppp0"'),
    ("[link.a]\nipparam = false", 'link.a.ipparam: false is no text; write it in quotes, such as "dsl-provider"'),
    # Ranges.
    (LINK + "table = 0", "link.dsl.table: 0 is the kernel's word for no table; choose one of 1..252 or above 255"),
    (LINK + "table = 253", "link.dsl.table: 253 is the kernel's table default; choose one of 1..252 or above 255"),
    (LINK + "table = 254", "link.dsl.table: 254 is the kernel's table main; choose one of 1..252 or above 255"),
    (LINK + "table = 255", "link.dsl.table: 255 is the kernel's table local; choose one of 1..252 or above 255"),
    (LINK + "table = 220", "link.dsl.table: 220 is strongSwan's table; choose one of 1..252 or above 255"),
    (LINK + "table = -1", "link.dsl.table: -1 is no table number; choose one of 1..252 or 256..4294967295"),
    (LINK + "table = 4294967296", ("link.dsl.table: 4294967296 is no table number; "
     "choose one of 1..252 or 256..4294967295")),
    (LINK + f"table = 0x{'f' * 5000}", ("link.dsl.table: a number of 20000 bits is no table number; "
     "choose one of 1..252 or 256..4294967295")),
    (TOP + "first_table = 0", "multihook.first_table: 0 is out of range; choose one of 1..4294901760"),
    (TOP + "first_table = 4294901761", ("multihook.first_table: 4294901761 is out of range; "
     "choose one of 1..4294901760")),
    (TOP + "rule_base = 0", "multihook.rule_base: 0 is out of range; choose one of 1..31766"),
    (TOP + "rule_base = 31767", "multihook.rule_base: 31767 is out of range; choose one of 1..31766"),
    (TOP + "mark_mask = 0", "multihook.mark_mask: 0 is no mask of 32 bits; write one such as 0xff000000"),
    (TOP + "mark_mask = -1", "multihook.mark_mask: -1 is no mask of 32 bits; write one such as 0xff000000"),
    (TOP + "mark_mask = 0x1ff000000", ("multihook.mark_mask: 8573157376 is no mask of 32 bits; "
     "write one such as 0xff000000")),
    (TOP + "mark_mask = 0xf0f0", ("multihook.mark_mask: 0x0000f0f0 has gaps; "
     "write bits that stand side by side, such as 0xff000000")),
    (TOP + "rt_proto = 4", "multihook.rt_proto: 4 belongs to static; choose another of 5..255, such as 109"),
    (TOP + "rt_proto = 16", "multihook.rt_proto: 16 belongs to dhcp; choose another of 5..255, such as 109"),
    (TOP + "rt_proto = 0", "multihook.rt_proto: 0 is out of range; choose one of 5..255"),
    (TOP + "rt_proto = 256", "multihook.rt_proto: 256 is out of range; choose one of 5..255"),
    (TOP + "group = 0", "multihook.group: 0 is out of range; choose one of 1..2147483647"),
    (TOP + "group = 2147483648", "multihook.group: 2147483648 is out of range; choose one of 1..2147483647"),
    # Names.
    ("[link.main]\ninterface = 'a'", ("link.main: main is a word that ip(8) reads as something else; "
     "choose another name, such as dsl")),
    ("[link.DSL]\ninterface = 'a'", ("link.DSL: no name for a link; write at most 16 of a-z 0-9 _ -, "
     "the first of them a letter: dsl")),
    ('[link."$(reboot)"]\ninterface = "a"', ('link."$(reboot)": no name for a link; '
     "write at most 16 of a-z 0-9 _ -, the first of them a letter, such as dsl")),
    ("[link.abcdefghijklmnopq]\ninterface = 'a'", ("link.abcdefghijklmnopq: no name for a link; "
     "write at most 16 of a-z 0-9 _ -, the first of them a letter, such as dsl")),
    ('[link."\\u0000"]\ninterface = "a"', ('link."\\x00": no name for a link; '
     "write at most 16 of a-z 0-9 _ -, the first of them a letter, such as dsl")),
    *(
        (f"[link.a]\ninterface = '''{name}'''", (f"link.a.interface: {shown} is no interface name; "
         "write at most 15 of A-Z a-z 0-9 . _ -, the first of them a letter or digit"))
        for name, shown in (
            ("c*", '"c*"'), ("a;id", '"a;id"'), ("", '""'), ("-x", '"-x"'), ("abcdefghijklmnop", '"abcdefghijklmnop"'),
            ("eth0/1", '"eth0/1"'), ("\u00e9", '"\\xe9"'),
        )
    ),
    ("[link.a]\ninterface = 'lo'", ('link.a.interface: "lo" leads to no provider; '
     "name the interface of the line, such as ppp0")),
    ("[link.a]\ninterface = 'all'", ('link.a.interface: "all" leads to no provider; '
     "name the interface of the line, such as ppp0")),
    ("[link.a]\nipparam = ''", ('link.a.ipparam: "" cannot be matched; '
     "write what pppd's option says, 1 to 200 printable characters")),
    ('[link.a]\nipparam = "a\\nb"', ('link.a.ipparam: "a\\nb" cannot be matched; '
     "write what pppd's option says, 1 to 200 printable characters")),
    ("[link.a]\nlinkname = 'a/b'", ('link.a.linkname: "a/b" has a slash, '
     "which pppd's linkname cannot have; take it out")),
    (TOP + 'ignore = ["a b"]', ('multihook.ignore: "a b" fits no interface; '
     'write a name, with * and ? for what varies: "wg*"')),
    (TOP + 'ignore = ["wg[0-9]"]', ('multihook.ignore: "wg[0-9]" fits no interface; '
     'write a name, with * and ? for what varies: "wg*"')),
    # Which line a link is.
    ("[link.dsl]\ntable = 200", ('link.dsl: names no line; add interface = "ppp0", '
     "or ipparam or linkname as pppd has them")),
    (LINK + 'ipparam = "x"', "link.dsl.ipparam: interface and ipparam are both there; keep one of them"),
    (LINK + 'linkname = "x"\nipparam = "x"', ("link.dsl.ipparam: interface and ipparam and linkname are both there; "
     "keep one of them")),
    (LINK + '[link.b]\ninterface = "ppp0"', ('link.b.interface: "ppp0" is link dsl\'s already; '
     "one line is one link: drop one of the two")),
    ("[link.a]\nipparam = 'x'\n[link.b]\nipparam = 'x'", ('link.b.ipparam: "x" is link a\'s already; '
     "one line is one link: drop one of the two")),
    ("[link.a]\nlinkname = 'x'\n[link.b]\nlinkname = 'x'", ('link.b.linkname: "x" is link a\'s already; '
     "one line is one link: drop one of the two")),
    (LINK + "table = 300\n" + OTHER + "table = 300", "link.b.table: 300 is link dsl's already; choose another number"),
    (TOP + 'ignore = ["ppp?"]\n' + LINK, ('link.dsl.interface: "ppp0" is in multihook.ignore ("ppp?"); '
     "take it out of one of the two")),
    # Addresses.
    *(
        (LINK + f'gateway = "{value}"', (f'link.dsl.gateway: "{value}" is no address; '
         'write one such as "192.0.2.1", without a length or a name'))
        for value in ("192.0.2.300", "192.0.2.1/24", "gw.example.org", "", "192.0.2.01")
    ),
    (LINK + 'gateway = "0.0.0.0"', 'link.dsl.gateway: "0.0.0.0" is in 0.0.0.0/8; write the provider\'s next hop'),
    (LINK + 'gateway = "127.0.0.1"', 'link.dsl.gateway: "127.0.0.1" is in 127.0.0.0/8; write the provider\'s next hop'),
    (LINK + 'gateway = "224.0.0.1"', 'link.dsl.gateway: "224.0.0.1" is multicast; write the provider\'s next hop'),
    (LINK + 'sources = ["x"]', 'link.dsl.sources: "x" is no network; write one such as "192.0.2.32/28"'),
    (LINK + 'sources = ["192.0.2.1/28"]', ('link.dsl.sources: "192.0.2.1/28" has bits set behind its length; '
     'write "192.0.2.0/28", or the length that is meant')),
    (LINK + 'networks = ["64.233.209.0/18"]', ('link.dsl.networks: "64.233.209.0/18" has bits set behind its length; '
     'write "64.233.192.0/18", or the length that is meant')),
    (LINK + 'networks = ["2001:db8::1/32"]', ('link.dsl.networks: "2001:db8::1/32" has bits set behind its length; '
     'write "2001:db8::/32", or the length that is meant')),
    (LINK + 'sources = ["192.0.2.0/33"]', ('link.dsl.sources: "192.0.2.0/33" has no length of 0..32 behind the slash; '
     "write one such as /28")),
    (LINK + 'sources = ["10.0.0.0/"]', ('link.dsl.sources: "10.0.0.0/" has no length of 0..32 behind the slash; '
     "write one such as /28")),
    (LINK + 'sources = ["10.0.0.0/255.0.0.0"]', ('link.dsl.sources: "10.0.0.0/255.0.0.0" has a mask; '
     'write the length: "10.0.0.0/8"')),
    (LINK + 'networks = ["0.0.0.0/0"]', ('link.dsl.networks: "0.0.0.0/0" is everything; '
     "write the networks that are meant (each link has a default route)")),
    (LINK + 'sources = ["127.0.0.0/8"]', ('link.dsl.sources: "127.0.0.0/8" has addresses of 127.0.0.0/8; '
     "leave those out")),
    (LINK + 'sources = ["128.0.0.0/1"]', ('link.dsl.sources: "128.0.0.0/1" has addresses of 224.0.0.0/3; '
     "leave those out")),
    (LINK + 'networks = ["239.1.2.3"]', 'link.dsl.networks: "239.1.2.3" has addresses of 224.0.0.0/3; leave those out'),
    (LINK + 'networks = ["ff02::/16"]', 'link.dsl.networks: "ff02::/16" has addresses of ff00::/8; leave those out'),
    (LINK + 'sources = ["192.0.2.0/24"]\n' + OTHER + 'sources = ["198.51.100.0/24", "192.0.2.32/28"]',
     ("link.b.sources: 192.0.2.32/28 and 192.0.2.0/24 of link dsl overlap; "
     "an address belongs to one link: take it out of one")),
    (LINK + 'sources = ["192.0.2.9"]\n' + OTHER + 'sources = ["192.0.2.0/24"]',
     ("link.dsl.sources: 192.0.2.9 and 192.0.2.0/24 of link b overlap; "
     "an address belongs to one link: take it out of one")),
    (LINK + 'sources = ["10.0.0.0/8", "10.1.0.0/16"]\n' + OTHER + 'sources = ["10.2.0.0/16"]',
     ("link.b.sources: 10.2.0.0/16 and 10.0.0.0/8 of link dsl overlap; "
     "an address belongs to one link: take it out of one")),
    # SNAT and glftpd.
    (LINK + 'snat = "yes"', 'link.dsl.snat: "yes" is none of "auto", true, false, "masquerade"; choose one'),
    (LINK + 'snat = "false"', 'link.dsl.snat: "false" is text; write false, without quotes'),
    (LINK + "snat = 1", 'link.dsl.snat: 1 is none of "auto", true, false, "masquerade"; choose one'),
    (LINK + 'snat = ["auto"]', 'link.dsl.snat: a list is none of "auto", true, false, "masquerade"; choose one'),
    *(
        (f"[glftpd]\nconfig = '{value}'", (f'glftpd.config: "{value}" is no path of a file; '
         "write it from the root on, such as /etc/glftpd.conf"))
        for value in ("etc/glftpd.conf", "/", "", "/etc/")
    ),
    ('[glftpd]\nmultilink = "/etc/../etc/glftpd.conf"',
     "glftpd.multilink: is the file that includes it; name another, such as /etc/multilink.conf"),
    ('[glftpd]\nmultilink = "/a\\nb"', ('glftpd.multilink: "/a\\nb" is no path of a file; '
     "write it from the root on, such as /etc/glftpd.conf")),
    ("[glftpd]\nlan = ['10.0.0.0/8']", ('glftpd.lan: "10.0.0.0/8" is no pattern of glftpd; '
     'write digits, dots, * and ?, such as "192.168.*"')),
    ("[glftpd]\nlan = ['']", ('glftpd.lan: "" is no pattern of glftpd; '
     'write digits, dots, * and ?, such as "192.168.*"')),
]  # fmt: skip


@pytest.mark.fault("F69")
@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_with_key_path_and_what_would_be_right(machine: Machine, text: str, message: str) -> None:
    assert refusal(machine, text)[0] == message


TAKEN = (
    {200: "table pipe2 in /etc/iproute2/rt_tables"},
    {"pipe2": "table 200 in /etc/iproute2/rt_tables"},
    {109: "mine in /etc/iproute2/rt_protos"},
    {(200, "pipe2")},
)


@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            LINK + "table = 200\n[multihook]\nrt_proto = 110",
            "link.dsl.table: 200 is table pipe2 in /etc/iproute2/rt_tables; choose another number or remove that line",
        ),
        (
            "[link.pipe2]\ninterface = 'eth1'\n[multihook]\nrt_proto = 110",
            (
                "link.pipe2: the name is taken by table 200 in /etc/iproute2/rt_tables; "
                "rename the link or remove that line"
            ),
        ),
        (
            "",
            "multihook.rt_proto: 109 is mine in /etc/iproute2/rt_protos; choose another of 5..255 or remove that line",
        ),
    ],
)
def test_what_others_have_is_refused(machine: Machine, text: str, message: str) -> None:
    assert refusal(machine, text, TAKEN) == [message]


def test_the_very_same_name_and_number_elsewhere_are_no_clash(machine: Machine) -> None:
    """The seeds' first step is such a line in rt_tables; taking it out again would be asked for nothing."""
    text = "[link.pipe2]\ninterface = 'eth1'\ntable = 200\n[multihook]\nrt_proto = 110"
    assert build(machine, text, TAKEN)[0]["links"]["pipe2"]["table"] == 200
    for more in ({(201, "pipe2")}, {(200, "dsl")}):
        assert refusal(machine, text, (*TAKEN[:3], TAKEN[3] | more))


def test_what_others_have_by_now_is_forgiven_to_the_last_good_one(machine: Machine) -> None:
    machine.write("[link.pipe2]\ninterface = 'eth1'\ntable = 200")
    config, _ = schema.build(toml.read(toml.installed()), TAKEN, forgive=True)
    assert config["links"]["pipe2"]["table"] == 200
    assert config["used_tables"][200] == "table pipe2 in /etc/iproute2/rt_tables"
    assert config["used_names"] == ["pipe2"]


def test_defaults(machine: Machine) -> None:
    config, notes = build(machine, "")
    assert notes == []
    known = {key: config[key] for key in schema.KEYS}
    assert known == {
        "adopt": True,
        "ignore": [],
        "first_table": 1000,
        "rule_base": 7000,
        "mark_mask": 0xFF000000,
        "rt_proto": 109,
        "group": 109,
    }
    assert config["links"] == config["by_interface"] == config["by_ipparam"] == config["by_linkname"] == {}
    assert (config["glftpd"], config["error"], config["usable"]) == (None, "", True)
    assert {0, 220, 253, 254, 255} <= config["used_tables"].keys()


def test_defaults_of_a_link(machine: Machine) -> None:
    config, _ = build(machine, LINK)
    assert config["allotted"] == ["dsl"]
    assert config["links"] == {
        "dsl": {
            "name": "dsl",
            "interface": "ppp0",
            "ipparam": "",
            "linkname": "",
            "table": 0,
            "gateway": b"",
            "lan": False,
            "snat": "auto",
            "sources": [],
            "networks": [],
        }
    }


EVERYTHING = """
[multihook]
adopt = false
ignore = ["wg*", "docker?", "tun*"]
first_table = 1
rule_base = 31766
mark_mask = 0x00f00000
rt_proto = 0xff
group = 2147483647

[link.cable]
ipparam = "a b"
table = 4_294_967_295
gateway = "169.254.1.1"
lan = true
snat = "masquerade"
sources = ["192.0.2.32/28", "198.51.100.7", "192.0.2.32/28"]
networks = ["10.0.0.0/8", "2001:db8::/32"]

[link.a]
linkname = "x"
table = 1
snat = true

[link.b]
interface = "eth0.100"
table = 256
snat = false
gateway = "fe80::1"

[glftpd]
lan = ["10.*"]
"""


def test_every_key_at_its_limits(machine: Machine) -> None:
    config, _ = build(machine, EVERYTHING)
    assert (config["adopt"], config["ignore"], config["first_table"]) == (False, ["wg*", "docker?", "tun*"], 1)
    assert (config["rule_base"], config["mark_mask"]) == (31766, 0x00F00000)
    assert (config["rt_proto"], config["group"]) == (255, 2147483647)
    assert list(config["links"]) == ["cable", "a", "b"]
    cable = config["links"]["cable"]
    assert (cable["ipparam"], cable["table"]) == ("a b", 4294967295)
    assert config["allotted"] == []
    assert (cable["gateway"], cable["lan"], cable["snat"]) == (bytes((169, 254, 1, 1)), True, "masquerade")
    assert cable["sources"] == [(bytes((192, 0, 2, 32)), 28), (bytes((198, 51, 100, 7)), 32)]
    assert cable["networks"] == [(bytes((10, 0, 0, 0)), 8), (bytes.fromhex("20010db8") + bytes(12), 32)]
    assert (config["links"]["a"]["snat"], config["links"]["b"]["snat"]) == (True, False)
    assert config["by_ipparam"] == {"a b": "cable"}
    assert config["by_linkname"] == {"x": "a"}
    assert config["by_interface"] == {"eth0.100": "b"}
    assert config["glftpd"] == {"config": "/etc/glftpd.conf", "multilink": "/etc/multilink.conf", "lan": ["10.*"]}


def test_defaults_are_nobodys_own(machine: Machine) -> None:
    config, _ = build(machine, LINK + OTHER)
    config["links"]["dsl"]["sources"].append("x")
    assert config["links"]["b"]["sources"] == []
    assert build(machine, LINK)[0]["links"]["dsl"]["sources"] == []


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (TOP + "rule_base = 5000", "multihook.rule_base: 5000..5999 has Tailscale's rules in it, where that runs"),
        (TOP + "rule_base = 220", "multihook.rule_base: 220..1219 has strongSwan's rule in it, where that runs"),
        (
            TOP + "mark_mask = 0xff0000",
            "multihook.mark_mask: 0x00ff0000 has bits of Tailscale's (0x00ff0000), where that runs",
        ),
        (LINK + "table = 52", "link.dsl.table: 52 is Tailscale's table, where that runs"),
        (
            LINK + '[link.b]\nipparam = "x"',
            "link.dsl.interface: link b may come up as ppp0 too; ipparam for both settles it",
        ),
    ],
)
def test_remarked_on(machine: Machine, text: str, note: str) -> None:
    assert build(machine, text)[1][0] == f"{machine.settings}: {note}"


def test_all_problems_are_reported(machine: Machine) -> None:
    lines = refusal(machine, "x = 1\n" + TOP + "adopt = 1\ngroup = 0\n" + LINK + "table = 254\nlan = 5\n[link.b]\n")
    assert [line.partition(":")[0] for line in lines] == [
        "x", "multihook.adopt", "multihook.group", "link.dsl.table", "link.dsl.lan", "link.b",
    ]  # fmt: skip


def test_more_problems_are_counted(machine: Machine) -> None:
    machine.write("".join(f"k{n} = 1\n" for n in range(1000)))
    with pytest.raises(toml.Refused) as caught:
        schema.build(toml.read(toml.installed()), NOBODY)
    assert (len(caught.value.problems), caught.value.count) == (20, 1000)
    assert caught.value.line().endswith("(and 999 more)")


def test_the_file_of_the_offending_key_is_named(machine: Machine) -> None:
    machine.write(LINK)
    machine.write('[link.dsl]\nsnat = "yes"\n', "10-a.toml")
    machine.write("[link.dsl]\ntable = 254\n[link.c]\nlan = true\n", "20-b.toml")
    machine.write('[link.dsl]\nipparam = "x"\n', "30-c.toml")
    with pytest.raises(toml.Refused) as caught:
        schema.build(toml.read(toml.installed()), NOBODY)
    places = {problem.key: Path(problem.path).name for problem in caught.value.problems}
    assert places == {
        "link.dsl.snat": "10-a.toml",
        "link.dsl.table": "20-b.toml",
        "link.c": "20-b.toml",
        "link.dsl.ipparam": "30-c.toml",
    }
    both = next(problem.what for problem in caught.value.problems if problem.key == "link.dsl.ipparam")
    assert both == (
        f"interface and ipparam are both there ({machine.drop_ins}/30-c.toml and {machine.settings}); keep one of them"
    )


@pytest.mark.fault("F57")
def test_a_thousand_links(machine: Machine) -> None:
    text = "".join(
        f'[link.l{n}]\ninterface = "eth{n}"\ntable = {n + 1000}\nsources = ["10.{n // 250}.{n % 250}.0/24"]\n'
        for n in range(1000)
    )
    config, notes = build(machine, text)
    assert (len(config["links"]), notes) == (1000, [])


@pytest.mark.parametrize("value", [True, 5, 2**70, 1.5, "x\n", [], {}, None])
def test_values_are_shown_in_one_short_line(value: Any) -> None:
    assert schema.shown(value).isprintable()
    assert len(schema.shown(value)) < 40


@pytest.mark.fault("F43")
def test_every_reserved_number_is_refused_and_never_allotted(machine: Machine) -> None:
    for number in tables.RESERVED:
        assert refusal(machine, LINK + f"table = {number}")[0].startswith(f"link.dsl.table: {number} is ")
