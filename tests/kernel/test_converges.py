"""G1, converges: whatever was told in whatever order, and whatever was lost, one run gives what a fresh start would."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from world import World
from world.ppp import Session

CONFIGURATION = """
[link.dsl]
interface = "ppp0"
table = 200
[link.tel]
ipparam = "tel"
table = 201
[link.fibre]
interface = "wan2"
gateway = "192.0.2.1"
table = 202
"""
PROTOCOLS = ("109", "110")  # as shipped, and what these tests change it to
CARDS = ("ppp0", "ppp1", "wan1", "wan2")
STATE = ("/run/multihook", "/var/lib/multihook")


class Cable:
    """A DHCP line that no configuration names, on a card that leads nowhere: only its events are wanted here."""

    def __init__(self, world: World, interface: str = "wan1") -> None:
        self.world, self.interface, self.address = world, interface, ""

    def tell(self, reason: str, new: str = "", old: str = "") -> None:
        """One run of Debian's dhclient-script, which sets and flushes the address itself."""
        words = {"old_ip_address": old} if old else {}
        if new:
            words |= {"new_ip_address": new, "new_subnet_mask": "255.255.255.0", "new_routers": "198.51.100.1"}
        self.world.dhclient_script(reason, self.interface, **words)

    def bind(self, last: int) -> None:
        """A lease of 198.51.100.LAST, in place of the one before."""
        new = f"198.51.100.{last}"
        self.tell("BOUND", new, self.address if self.address != new else "")
        self.address = new

    def renew(self) -> None:
        """The same lease again; nothing where there is none."""
        if self.address:
            self.tell("RENEW", self.address, self.address)

    def expire(self) -> None:
        """The lease is over."""
        self.tell("EXPIRE", old=self.address or "198.51.100.250")
        self.address = ""


class Machine:
    """A box with four lines: PPP by interface, PPP by ipparam, static with a configured next hop, DHCP adopted."""

    def __init__(self, world: World) -> None:
        self.world = world
        for card in ("wan1", "wan2"):  # a cable to nowhere
            world.box.ip(
                f"link add {card} type veth peer name far-{card}", f"link set {card} up", f"link set far-{card} up"
            )
        world.box.ip("addr add 192.0.2.9/24 dev wan2")
        world.configure(CONFIGURATION)
        self.dsl = world.ppp_up("ppp0", "203.0.113.45", "203.0.113.1", ipparam="any")
        self.tel = world.ppp_up("ppp1", "203.0.113.46", "203.0.113.1", ipparam="tel")
        self.cable = Cable(world)
        self.cable.bind(7)

    def is_up(self, session: Session) -> bool:
        """Whether the session's address is there."""
        return session.local in self.world.box.addresses(session.interface)

    def state(self) -> list[str]:
        """Every rule, route and group there is, as text: all that multihook has a hand in, and what it has not."""
        rules = [f"rule {line}" for line in self.world.rules()]
        routes = [f"route {line}" for line in self.world.routes("all")]
        groups = [f"group {card['ifname']} {card['group']}" for card in self.world.box.ip_json("link")]
        # What the kernel thinks of a next hop comes and goes by itself.
        return sorted(
            " ".join(w for w in line.split() if w not in ("linkdown", "dead", "[detached]"))
            for line in rules + routes + groups
        )

    def tell_all(self) -> None:
        """Each link's hook once, saying what is true."""
        for session in self.world.sessions.values():
            session.event("ip-up" if self.is_up(session) else "ip-down")
        if self.cable.address:
            self.cable.renew()
        else:
            self.cable.expire()

    def sync(self) -> None:
        """multihook sync."""
        self.world.multihook("sync", check=True)

    def wipe(self) -> None:
        """As after a boot, which only the allotted table numbers outlive; done without the product."""
        for protocol in PROTOCOLS:
            self.world.box.run("ip", "rule", "flush", "protocol", protocol)
            self.world.box.run("ip", "route", "flush", "table", "all", "protocol", protocol, check=False)
        for card in self.world.box.ip_json("link"):
            self.world.box.ip(f"link set {card['ifname']} group 0")
        lose("/run/multihook")
        assert not [line for line in self.state() if any(f"proto {p}" in line for p in PROTOCOLS)]

    def fresh(self) -> list[str]:
        """The state that a machine would have which starts with the same facts and the same configuration."""
        self.wipe()
        self.tell_all()
        return self.state()


def lose(*paths: str) -> None:
    """State that is gone, files or folders."""
    for path in paths:
        for found in Path("/").glob(path.lstrip("/")):
            if found.is_dir():
                for inner in found.iterdir():
                    lose(str(inner))
                found.rmdir()
            else:
                found.unlink()


@pytest.fixture
def machine(world: World) -> Machine:
    """All four lines are up."""
    return Machine(world)


@pytest.mark.fast
def test_a_fresh_start_gives_what_the_events_gave(machine: Machine) -> None:
    """The measure itself: it holds for events in their order, in another order, and for one look at everything."""
    grown = machine.state()
    assert sum("proto 109" in line for line in grown) == 4 * 3 + 4 * 3
    assert [line for line in grown if line.startswith("group") and not line.endswith(" 0")] == [
        f"group {card} 109" for card in CARDS
    ]
    assert machine.fresh() == grown
    machine.wipe()
    machine.cable.renew()
    machine.tel.up_event()
    assert machine.state() == grown
    machine.sync()
    assert machine.state() == grown


# --- order ---


def doubled(machine: Machine) -> None:
    for _ in range(2):
        machine.dsl.up_event()
        machine.cable.renew()
    machine.tel.drop()
    for _ in range(2):
        machine.tel.down_event()


def down_of_the_old_session_after_up_of_the_new(machine: Machine) -> None:
    old = machine.dsl.local
    machine.dsl.reconnect("203.0.113.50", event=False)
    machine.dsl.up_event()
    machine.dsl.down_event(local=old)


def up_after_the_session_is_gone(machine: Machine) -> None:
    machine.dsl.drop()
    machine.dsl.down_event()
    machine.dsl.up_event()


def down_although_the_address_is_there(machine: Machine) -> None:
    machine.dsl.down_event()
    machine.tel.down_event(local="")


def up_and_down_the_wrong_way_round(machine: Machine) -> None:
    machine.tel.reconnect("203.0.113.50", event=False)
    machine.tel.up_event()
    machine.tel.down_event(local="203.0.113.46")
    machine.dsl.drop()
    machine.dsl.up_event()
    machine.dsl.down_event()


def up_with_an_address_of_long_ago(machine: Machine) -> None:
    machine.dsl.readdress("203.0.113.51")
    machine.dsl.up_event()
    machine.dsl.readdress("203.0.113.52")
    machine.dsl.up_event(local="203.0.113.51")
    machine.dsl.up_event(local="203.0.113.45")


def another_address_while_ip_up_ran(machine: Machine) -> None:
    # timeline-ppp-flap.txt, E1: pppd calls nothing more; then SIGHUP, and ip-down names the address that was lost.
    machine.dsl.reconnect("203.0.113.11")
    machine.dsl.reconnect("203.0.113.12", event=False)
    lost = machine.dsl.local
    machine.dsl.reconnect("203.0.113.13", event=False)
    machine.dsl.down_event(local=lost)


def a_session_that_ends_without_a_word_and_comes_back(machine: Machine) -> None:
    # E3: pppd is gone, ip-down was not run; the next pppd has a new interface of the same name.
    machine.dsl.reconnect("203.0.113.14", event=False)
    machine.dsl.up_event()
    machine.tel.reconnect(event=False)
    machine.tel.up_event()


def a_lease_that_moves_by_expire_and_by_bound(machine: Machine) -> None:
    machine.cable.bind(8)
    machine.cable.expire()
    machine.cable.bind(9)
    machine.cable.tell("BOUND", machine.cable.address, "198.51.100.7")


def reasons_that_say_nothing(machine: Machine) -> None:
    machine.cable.tell("PREINIT")
    machine.cable.tell("MEDIUM")
    machine.cable.tell("NEWS")


def all_at_the_same_instant(machine: Machine) -> None:
    machine.dsl.reconnect("203.0.113.60", event=False)
    machine.tel.readdress("203.0.113.61")
    running = [s.up_event(wait=False) for s in (machine.dsl, machine.tel) for _ in range(4)]
    running += [machine.dsl.down_event(wait=False, local=f"203.0.113.{n}") for n in (45, 59)]
    machine.cable.bind(70)
    for process in running:
        assert process.wait(30) == 0


ORDERS: list[Callable[[Machine], None]] = [
    doubled,
    down_of_the_old_session_after_up_of_the_new,
    up_after_the_session_is_gone,
    down_although_the_address_is_there,
    up_and_down_the_wrong_way_round,
    up_with_an_address_of_long_ago,
    another_address_while_ip_up_ran,
    a_session_that_ends_without_a_word_and_comes_back,
    a_lease_that_moves_by_expire_and_by_bound,
    reasons_that_say_nothing,
    all_at_the_same_instant,
]


@pytest.mark.fault("F4", "F5")
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__.replace("_", " "))
def test_the_last_event_leaves_what_a_fresh_start_would_give(
    machine: Machine, order: Callable[[Machine], None]
) -> None:
    """Doubled, late, stale, crossed, overlapping and lost events; nothing is run after them."""
    order(machine)
    left = machine.state()
    assert left == machine.fresh()


UNANNOUNCED: dict[str, Callable[[Machine], object]] = {
    "ip-up again": lambda machine: machine.dsl.up_event(),
    "an ip-up that is late": lambda machine: machine.dsl.up_event(local="203.0.113.45"),
    "an ip-down that is late": lambda machine: machine.dsl.down_event(local="203.0.113.45"),
    "sync": lambda machine: machine.sync(),
    "multihook up": lambda machine: machine.world.multihook("up", "ppp0", check=True),
    # The kernel took the routes with the address, and that is seen from anywhere.
    "another link's event": lambda machine: machine.tel.up_event(),
}


@pytest.mark.fault("F9")
@pytest.mark.parametrize("repair", list(UNANNOUNCED.values()), ids=list(UNANNOUNCED))
def test_a_change_of_address_that_nobody_told_of_is_repaired(
    machine: Machine, repair: Callable[[Machine], object]
) -> None:
    """By the next event, whatever it says, and by sync: twice, since one change may hide another."""
    for last in (81, 82):
        machine.dsl.readdress(f"203.0.113.{last}")
        repair(machine)
        assert [rule for rule in machine.world.rules() if f"from 203.0.113.{last} lookup 200" in rule]
    left = machine.state()
    assert left == machine.fresh()


@pytest.mark.fault("F9")
def test_a_static_link_and_a_lease_that_changed_in_silence_are_repaired_by_sync(machine: Machine) -> None:
    """`ip addr change` by an administrator, a lease that somebody renewed by hand, a line that came up unheard."""
    machine.world.box.ip("addr del 192.0.2.9/24 dev wan2", "addr add 192.0.2.10/24 dev wan2")
    machine.world.box.ip("addr del 198.51.100.7/24 dev wan1", "addr add 198.51.100.8/24 dev wan1")
    machine.world.box.ip("route add default via 198.51.100.1")
    machine.cable.address = "198.51.100.8"
    machine.dsl.drop()
    machine.sync()
    left = machine.state()
    assert [line for line in left if "198.51.100.7" in line or "192.0.2.9" in line or "203.0.113.45" in line] == []
    assert left == machine.fresh()


# --- interfaces that are not what they were ---


@pytest.mark.fault("F14")
@pytest.mark.parametrize("repair", ["event", "sync"])
def test_an_interface_made_anew_under_the_same_name_is_the_link_again(machine: Machine, repair: str) -> None:
    """Another index, so routes and group are gone, while the address and the rules are what they were."""
    machine.dsl.reconnect(event=False)
    assert len(machine.world.routes(200)) == 1  # the guard; the kernel took the rest
    if repair == "event":
        machine.dsl.up_event()
    else:
        machine.sync()
    left = machine.state()
    assert left == machine.fresh()


@pytest.mark.fault("F14")
def test_a_renamed_interface_leaves_nothing_under_its_old_name(machine: Machine) -> None:
    """wan1 is called wan9 from now on: the old name's rule goes, and the line is another one."""
    machine.world.box.ip("link set wan1 down", "link set wan1 name wan9", "link set wan9 up")
    machine.cable.interface = "wan9"
    machine.cable.renew()
    machine.sync()
    left = machine.state()
    assert [line for line in left if "wan1" in line.split()] == []
    assert left == machine.fresh()


# --- our objects, behind our back ---


def objects_of_ours(machine: Machine) -> dict[str, str]:
    """{what it is: the `ip` line that takes it away}, for each rule, route and group of ours."""
    found = {}
    for line in machine.world.rules():
        if "proto 109" in line:
            priority, rest = line.split(":", 1)
            found[line] = f"rule del priority {priority} {rest.replace('from all ', '').strip()}"
    for line in machine.world.routes("all"):
        if "proto 109" in line:
            found[line] = f"route del {line}"
    for card in CARDS:
        found[f"group of {card}"] = f"link set {card} group 0"
    return found


def assert_restored(machine: Machine, repair: Callable[[], object], taken: Mapping[str, tuple[str, ...]]) -> None:
    """Take each of these away, repair, and look: what does not come back is named."""
    before = machine.state()
    missing = {}
    for what, lines in taken.items():
        machine.world.box.ip(*lines)
        assert machine.state() != before, what
        repair()
        left = machine.state()
        if left != before:
            missing[what] = sorted(set(before) ^ set(left))
            machine.sync()
            assert machine.state() == before, f"not even sync restores {what}"
    assert missing == {}


EVERYTHING_AT_ONCE = {
    "all rules": ("rule flush", "rule add priority 32766 lookup main", "rule add priority 32767 lookup default"),
    "all rules of ours": ("rule flush protocol 109",),
    "a whole table": ("route flush table 200",),
    "the default routes of all tables": tuple(f"route del default table {n}" for n in (200, 201, 202, 1000)),
    "all groups": tuple(f"link set {card} group 0" for card in CARDS),
    "everything": ("rule flush protocol 109", "route flush table all protocol 109", "link set ppp0 group 0"),
}


@pytest.mark.fault("F38")
def test_each_object_taken_away_is_restored_by_sync(machine: Machine) -> None:
    """One by one, and many at once."""
    taken = {what: (line,) for what, line in objects_of_ours(machine).items() if "wan2" in line or "dsl" in what}
    assert len(taken) >= 4
    assert_restored(machine, machine.sync, taken | EVERYTHING_AT_ONCE)


@pytest.mark.fault("F38", "F39")
def test_each_object_taken_away_is_restored_by_the_next_event_of_its_link(machine: Machine) -> None:
    """Its hook looks at all of the link's objects, not at what changed."""
    own = ("ppp0", "200", "203.0.113.45")
    taken = {
        what: (line,) for what, line in objects_of_ours(machine).items() if any(word in what.split() for word in own)
    }
    assert len(taken) == 7
    assert_restored(machine, machine.dsl.up_event, taken)


@pytest.mark.fault("F39")
@pytest.mark.parametrize("how", ["address deleted and back", "link down and up"])
@pytest.mark.parametrize("whose", ["its own", "another link's"])
def test_a_table_that_the_kernel_emptied_is_filled_by_the_next_event(machine: Machine, how: str, whose: str) -> None:
    """The kernel says nothing of the routes that it takes, and address and interface are as they were."""
    before, box = machine.state(), machine.world.box
    if how == "link down and up":
        box.ip("link set ppp0 down", "link set ppp0 up")
    else:
        box.ip(*(f"addr {word} 203.0.113.45 peer 203.0.113.1/32 dev ppp0" for word in ("del", "add")))
    assert machine.world.routes(200) == ["unreachable default proto 109 metric 4294967295"]
    if whose == "its own":
        machine.dsl.up_event()
    else:
        machine.tel.up_event()
    assert machine.state() == before


@pytest.mark.fault("F38")
@pytest.mark.parametrize("which", ["rules", "routes", "groups", "many"])
def test_each_object_taken_away_is_restored_by_an_event_of_another_link(machine: Machine, which: str) -> None:
    """Whoever deletes rules or flushes a table runs no hook of ours; the next hook of any link repairs it."""
    others = ("ppp0", "200", "203.0.113.45")
    one_by_one = {what: (line,) for what, line in objects_of_ours(machine).items() if set(others) & set(what.split())}
    taken: Mapping[str, tuple[str, ...]] = {
        "rules": {what: line for what, line in one_by_one.items() if line[0].startswith("rule")},
        "routes": {what: line for what, line in one_by_one.items() if line[0].startswith("route")},
        "groups": {what: line for what, line in one_by_one.items() if line[0].startswith("link")},
        "many": EVERYTHING_AT_ONCE,
    }[which]
    assert taken
    assert_restored(machine, machine.tel.up_event, taken)


def test_objects_that_look_like_ours_but_lead_nowhere_are_taken_away(machine: Machine) -> None:
    """With our protocol number, from a former life: only ours carry it."""
    before = machine.state()
    machine.world.box.ip(
        "rule add from 203.0.113.99 lookup 200 priority 7400 protocol 109",
        "rule add oif ppp7 lookup 299 priority 7000 protocol 109",
        "route add 192.0.2.128/25 dev wan2 table 202 protocol 109",
        "route add unreachable default table 299 metric 4294967295 protocol 109",
    )
    machine.sync()
    assert machine.state() == before


# --- state that is lost ---


LOST = {
    "leases": ("/run/multihook/leases",),
    "one lease": ("/run/multihook/leases/dsl.inet",),
    "private": ("/run/multihook/private",),
    "certificate": ("/run/multihook/private/applied",),
    "compiled configuration": ("/run/multihook/private/compiled",),
    "last result": ("/run/multihook/last",),
    "run": ("/run/multihook",),
    "var": ("/var/lib/multihook",),
    "var and certificate": ("/var/lib/multihook", "/run/multihook/private/applied"),
    "everything": STATE,
}


@pytest.mark.fault("F16")
@pytest.mark.parametrize("repair", ["event of another link", "sync"])
def test_lost_state_changes_nothing(machine: Machine, repair: str) -> None:
    """Every link goes on as it was, also one of which only an event told: the kernel still has what was made of it."""
    before = machine.state()
    changed = {}
    for what, paths in LOST.items():
        lose(*paths)
        if repair == "sync":
            machine.sync()
        else:
            machine.dsl.up_event()
        left = machine.state()
        if left != before:
            changed[what] = sorted(set(before) ^ set(left))
            machine.tell_all()
            assert machine.state() == before, f"not even an event of each link restores what the loss of {what} took"
    assert changed == {}


@pytest.mark.fault("F16")
@pytest.mark.parametrize(
    "paths", [LOST["leases"], LOST["run"], LOST["everything"]], ids=["leases", "run", "everything"]
)
def test_links_that_change_while_the_state_is_lost_leave_nothing_behind(
    machine: Machine, paths: tuple[str, ...]
) -> None:
    """Two have other addresses, one is gone: nobody remembers what they had."""
    machine.dsl.readdress("203.0.113.91")
    machine.tel.drop()
    lose(*paths)
    machine.cable.bind(92)
    machine.tell_all()
    left = machine.state()
    gone = ("203.0.113.45", "203.0.113.46", "198.51.100.7", "ppp1")
    assert [line for line in left if set(gone) & set(line.split())] == []
    assert left == machine.fresh()


@pytest.mark.fault("F16")
@pytest.mark.parametrize("repair", ["event", "sync"])
def test_allotted_numbers_that_are_lost_leave_no_table_behind(world: World, repair: str) -> None:
    """Two adopted lines; the one that came first, and so has the first number, is the last in any list."""
    for name in ("wan9", "wan1"):
        world.box.ip(
            f"link add {name} type veth peer name far-{name}", f"link set {name} up", f"link set far-{name} up"
        )
        Cable(world, name).bind(10 + int(name[3:]))
    lose("/var/lib/multihook")
    if repair == "event":
        Cable(world, "wan1").tell("RENEW", "198.51.100.11", "198.51.100.11")
    else:
        world.multihook("sync", check=True)
    rules = {rule.split("lookup ")[1].split()[0] for rule in world.rules() if rule.startswith(("7000", "7400"))}
    tables = {line.split("table ")[1].split()[0] for line in world.routes("all") if "proto 109" in line}
    assert len(rules) == 2 and tables == rules
    assert world.multihook("status").returncode == 0


# --- held back, taken out ---


@pytest.mark.fault("F13")
def test_events_during_an_upgrade_wait_and_are_all_applied(machine: Machine) -> None:
    """While dpkg replaces the package, hooks only spool; the first run afterwards takes all of it along."""
    before = machine.state()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    mark = Path("/run/multihook/private/upgrading")
    mark.write_text(f"{boot}\n{Path('/proc/uptime').read_text().split('.')[0]}\n")
    machine.dsl.reconnect("203.0.113.55")
    machine.dsl.reconnect("203.0.113.56")
    machine.tel.down()
    machine.world.ppp_up("ppp4", "203.0.113.58", "203.0.113.1", ipparam="tel")  # only its event says whose it is
    machine.cable.bind(8)
    ours = [line for line in machine.state() if line.startswith("rule")]
    assert ours == [line for line in before if line.startswith("rule")]
    mark.unlink()
    machine.sync()
    left = machine.state()
    assert "rule 7000: from all oif ppp4 lookup 201 proto 109" in left
    assert left == machine.fresh()


def test_what_was_flushed_comes_back_by_the_next_event_or_by_sync(machine: Machine) -> None:
    """With --once at the next event of any link; else everything that happened meanwhile is applied by sync."""
    before = machine.state()
    machine.world.multihook("flush", "--once", check=True)
    assert [line for line in machine.state() if "proto 109" in line] == []
    machine.cable.renew()
    assert machine.state() == before
    machine.world.multihook("flush", check=True)
    machine.tel.reconnect("203.0.113.57")
    machine.dsl.down()
    assert [line for line in machine.state() if "proto 109" in line] == []
    machine.sync()
    left = machine.state()
    assert left == machine.fresh()


# --- configuration that changes ---


CHANGES: dict[str, Callable[[str], str]] = {
    "table": lambda text: text.replace("table = 200", "table = 300"),
    "tables swapped": lambda text: text.replace("200", "x").replace("201", "200").replace("x", "201"),
    "first_table": lambda text: "[multihook]\nfirst_table = 2000\n" + text,
    "rule_base": lambda text: "[multihook]\nrule_base = 8000\n" + text,
    "rt_proto": lambda text: "[multihook]\nrt_proto = 110\n" + text,
    "group": lambda text: "[multihook]\ngroup = 110\n" + text,
    "rt_proto and group and rule_base": lambda text: (
        "[multihook]\nrt_proto = 110\ngroup = 110\nrule_base = 100\n" + text
    ),
    "link removed": lambda text: text.replace('[link.dsl]\ninterface = "ppp0"\ntable = 200\n', ""),
    "links removed": lambda text: "",
    "link renamed": lambda text: text.replace("link.dsl", "link.home"),
    "links renamed crosswise": lambda text: (
        text.replace("link.dsl", "x").replace("link.tel", "link.dsl").replace("x", "link.tel")
    ),
    "another interface": lambda text: text.replace('"ppp0"', '"ppp4"'),
    "another key": lambda text: text.replace('ipparam = "tel"', 'interface = "ppp1"'),
    "another ipparam": lambda text: text.replace('"tel"', '"other"'),
    "next hop": lambda text: text.replace("192.0.2.1", "192.0.2.2"),
    "order": lambda text: text[text.index("[link.fibre]") :] + text[: text.index("[link.fibre]")],
    "lan": lambda text: text + "lan = true\n",
    "sources": lambda text: text + 'sources = ["192.0.2.32/28"]\n',
    "networks": lambda text: text + 'networks = ["10.0.0.0/8"]\n',
    "ignore": lambda text: '[multihook]\nignore = ["wan1"]\n' + text,
    "adopt": lambda text: "[multihook]\nadopt = false\n" + text,
    "adopted link named": lambda text: text + '[link.cable]\ninterface = "wan1"\ntable = 210\n',
}


@pytest.mark.fault("F70")
@pytest.mark.parametrize("change", list(CHANGES.values()), ids=list(CHANGES))
def test_a_changed_configuration_leaves_no_old_object(machine: Machine, change: Callable[[str], str]) -> None:
    """There by sync, back by an event of another link: both look at everything, and nothing of the old one stays."""
    before = machine.state()
    machine.world.configure(change(CONFIGURATION))
    machine.sync()
    changed = machine.state()
    assert changed == machine.fresh()
    machine.world.configure(CONFIGURATION)
    machine.cable.renew()
    machine.tel.up_event()  # of which no configuration that did not want it kept a record
    assert machine.state() == before


@pytest.mark.fault("F70")
@pytest.mark.parametrize("setting", ["group = 110", "rule_base = 8000"])
def test_a_number_that_changes_while_the_state_is_lost_leaves_no_old_object(machine: Machine, setting: str) -> None:
    """Nothing on disk says what it was; our rules in the kernel, known by their protocol number, still do."""
    before = machine.state()
    machine.world.configure(f"[multihook]\n{setting}\n{CONFIGURATION}")
    machine.sync()
    assert machine.state() != before
    lose(*STATE)
    machine.world.configure(CONFIGURATION)
    machine.sync()
    machine.tell_all()
    assert machine.state() == before
