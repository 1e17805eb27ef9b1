"""G1 to G4 after histories that nobody thought of: a state machine (hypothesis) does to a house what a bad month does.

After each history one `multihook sync` gives what a fresh boot with the same facts gives, a second one changes nothing,
what others own and what the kernel answers to them is the same with us and without, and no datagram ever left by a line
with a source of another.

    sudo tests/run                  a few histories of fixed seeds
    sudo tests/run --long           as many as it takes for 10,000 events (MULTIHOOK_LONG), of other seeds each time
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from house import (
    CARDS,
    CONFIGURATION,
    FIREWALL,
    GROUPS,
    GUEST,
    GUEST_ADDRESS,
    LEASES,
    LINES,
    NOTIFY,
    RANGE,
    REPORT,
    SESSIONS,
    STATICS,
    House,
    Tidings,
    assert_same,
    lose,
)
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from state import PRIVATE, RUN, SPOOL, VAR

from world.namespaces import run_tool
from world.world import Pristine, World

LONG = int(os.environ.get("MULTIHOOK_LONG") or 0)  # how many events; 0: the short form
SEEDS = [int(time.time())] if LONG else [1, 2]
HISTORIES = 5  # of a seed
MOST, LEAST = 30 if LONG else 20, 10  # happenings in a history
PACKAGE = Path("/usr/lib/python3/dist-packages/multihook")
MAINTAINER = Path(__file__).parents[2] / "debian"
ALL = ("dsl", "tel", "cable", "fibre", "spare")
TEL = '[link.tel]\nipparam = "tel"\ntable = 201\n'
SPARE = '[link.spare]\ninterface = "wan3"\ngateway = "198.51.100.1"\ntable = 204\n'

# With these each line is a link that translates, so nothing wrong leaves by any, also while one follows another.
GUARDED = {
    "as it was": CONFIGURATION,
    "tables swapped": CONFIGURATION.replace("200", "x").replace("201", "200").replace("x", "201"),
    "other tables": CONFIGURATION.replace("table = 20", "table = 30"),
    "snat": CONFIGURATION.replace("table = 201", "table = 201\nsnat = true")
    .replace("table = 202", 'table = 202\nsnat = "masquerade"')
    .replace("table = 203", f'table = 203\nsources = ["{RANGE}"]'),
    "group and base": "[multihook]\ngroup = 110\nrule_base = 8000\n" + CONFIGURATION,
    "networks and lan": CONFIGURATION.replace("table = 203", 'table = 203\nlan = true\nnetworks = ["10.200.0.0/16"]'),
    "no glftpd": CONFIGURATION.replace("[glftpd]\n", ""),
    "other order": SPARE + CONFIGURATION.replace(SPARE, ""),
}  # fmt: skip
# And with these some lines are adopted, or nobody's.
OPEN = {
    "two adopted": CONFIGURATION.replace(TEL, "").replace(SPARE, ""),
    "all adopted": "",
    "none adopted": "[multihook]\nadopt = false\n" + CONFIGURATION.replace(SPARE, ""),
    "ignored": '[multihook]\nignore = ["wan3", "ppp1"]\n' + CONFIGURATION.replace(TEL, "").replace(SPARE, ""),
    "without snat": CONFIGURATION.replace("gateway", "snat = false\ngateway"),
}
WRONG = {"a typing error": CONFIGURATION + "[link.\n", "an unknown key": CONFIGURATION + "[multihook]\nadpot = true\n"}

WAYS = st.sampled_from(["told", "told", "told", "lost", "doubled", "late", "killed", "overlapped"])
# The system call before which a run is killed, and which one of that name: few runs make more of them.
KILLS = st.sampled_from(["sendto", "sendto", "rename", "unlink", "write", "mkdir"]).flatmap(
    lambda call: st.tuples(st.just(call), st.integers(1, {"sendto": 30, "rename": 6, "write": 6}.get(call, 2)))
)
SESSION = st.sampled_from(["dsl", "tel"])
CARD = st.sampled_from(["cable", "spare"])
NUMBER = st.integers(0, 63)
COUNTED = ("histories", "happenings", "events", "kills", "datagrams judged")
SCRIPT = st.sampled_from(["ip-up", "ip-down"])
ANSWER = st.sampled_from(["BOUND", "RENEW", "REBOOT"])
ANYTHING = st.sampled_from(["RENEW", "EXPIRE", "REBIND", "TIMEOUT", "PREINIT"])
OPTION = st.sampled_from(["rp_filter", "arp_filter", "arp_announce", "src_valid_mark"])
LOST = st.sampled_from(["all of /run", "all of /var", "everything", "leases", "private", "certificate", "lock"])
DELETED = st.sampled_from(["rule", "rule", "route", "route", "group", "rules", "table", "routes"])


def happens(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule of the state machine; where one fails the end is not judged any more."""

    def decorate(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def happening(self: History, **words: Any) -> None:
            self.to_come.append(functools.partial(method, self, **words))
            if len(self.to_come) >= LEAST or self.house:
                self.go_on()

        made: Callable[..., None] = rule(**strategies)(happening)
        return made

    return decorate


class History(RuleBasedStateMachine):
    """One house, and all that happens to it."""

    pristine: ClassVar[Pristine]
    survived: ClassVar[dict[str, int]] = dict.fromkeys(COUNTED, 0)

    def __init__(self) -> None:
        super().__init__()
        self.to_come: list[Callable[[], None]] = []
        self.house: House = None  # type: ignore[assignment]
        self.is_broken = False
        self.configuration = "as it was"
        self.right = CONFIGURATION  # the last configuration without errors
        self.unheard: set[str] = set()  # lines whose program has not said what is true, or was not remembered
        # Nobody has told of tel's present session, or what was told is lost: no run can know it then.
        self.is_tel_untold = False
        self.changed_since_sync: set[str] = set()
        self.held: set[str] = set()
        self.late: list[Tidings] = []
        self.running: list[subprocess.Popen[str]] = []
        self.is_replacing = False
        # What a line that is down or none should have is not known any more: somebody else set it, or the record of
        # what it had before us is lost together with all else that told of us.
        self.are_sysctls_unsure = False
        self.is_state_lost = False  # so that only our rules tell which interface group was ours before
        self.happenings = self.events = self.kills = self.judged = 0

    def go_on(self) -> None:
        """What is to come happens; the house is built for the first of it."""
        self.is_broken = True
        if not self.house:
            self.pristine.restore()
            self.world = World()
            try:
                self.house = House(self.world)
            except BaseException:
                self.world.close()
                raise
            self.box = self.world.box
            self.house.wire.promise(True)
            self.house.wire.let_send()
        for happening in self.to_come:
            happening()
            self.happenings += 1
        self.to_come.clear()
        self.is_broken = False

    # -- what is done with what is told --

    def deliver(self, line: str, tidings: Tidings, way: str, kill: tuple[str, int], is_true: bool = True) -> None:
        """By this way."""
        self.events += {"lost": 0, "doubled": 2, "late": 0}.get(way, 1)
        self.unheard.add(line)
        self.is_tel_untold |= line == "tel" and is_true
        if way in ("told", "doubled"):
            for _ in range(1 + (way == "doubled")):
                self.house.tell(tidings)
            if is_true and not self.is_replacing:
                self.unheard.discard(line)
                self.held.discard(line)
                self.is_tel_untold &= line != "tel"
        elif way == "late":
            self.late.append(tidings)
        elif way == "killed":
            self.kills += self.house.killed(tidings.direct, *kill, env=tidings.env)
        elif way == "overlapped":
            self.running.append(self.house.tell_in_background(tidings))

    def command(self, *words: str) -> Any:
        """One of multihook's; none ends in a traceback."""
        self.events += 1
        done = self.world.multihook(*words)
        assert "Traceback" not in done.stderr, done
        return done

    def changed_state(self) -> None:
        """What was told may be forgotten."""
        self.unheard |= {*ALL, GUEST}

    def lost_state(self) -> None:
        """And what was there before us."""
        self.changed_state()
        self.are_sysctls_unsure = self.is_state_lost = True
        self.may_forget_tel("state")

    def may_forget_tel(self, changed: str) -> None:
        """Without its record it is known by the rules that lead to its table, if they stand and that is its table still."""
        self.changed_since_sync.add(changed)
        if "state" in self.changed_since_sync and len(self.changed_since_sync) > 1:
            self.is_tel_untold = True
            self.house.wire.forget_lines_of(self.untold())

    def untold(self) -> frozenset[str]:
        """Addresses that are there and known to nobody but their program; see silent()."""
        found = {self.house.sessions["tel"].local} if self.is_tel_untold else set()
        for line in self.unheard & self.switched_off():
            found.update(self.box.addresses(CARDS[line]))
        return frozenset(found)

    # -- sessions --

    @happens(line=SESSION, unit=st.integers(1, 2), address=st.sampled_from(SESSIONS), way=WAYS, down=WAYS, kill=KILLS)
    def reconnects(self, line: str, unit: int, address: str, way: str, down: str, kill: tuple[str, int]) -> None:
        """A new interface, of a new number perhaps, with an address that may be the other session's."""
        if self.house.is_there(line):
            with self.house.wire.changing():
                self.house.sessions[line].drop()
            self.deliver(line, self.house.of_session(line), down, kill)
        with self.house.wire.changing():
            self.house.connect(line, self.house.unit(line, unit), address)
        self.deliver(line, self.house.of_session(line), way, kill)

    @happens(line=SESSION, address=st.sampled_from(SESSIONS), way=WAYS, kill=KILLS)
    def is_renumbered(self, line: str, address: str, way: str, kill: tuple[str, int]) -> None:
        """On the interface that is there."""
        if self.house.has_address(line):
            with self.house.wire.changing(again=address):
                self.house.sessions[line].readdress(address)
        self.deliver(line, self.house.of_session(line), way, kill)

    @happens(line=SESSION, gone=st.booleans(), way=WAYS, kill=KILLS)
    def hangs_up(self, line: str, gone: bool, way: str, kill: tuple[str, int]) -> None:
        """Its address goes, or its interface too."""
        if self.house.has_address(line):
            with self.house.wire.changing():
                self.house.sessions[line].down(gone=gone, event=False)
        self.deliver(line, self.house.of_session(line), way, kill)

    @happens(line=SESSION, script=SCRIPT, address=st.sampled_from(SESSIONS), way=WAYS, kill=KILLS)
    def says_what_was(self, line: str, script: str, address: str, way: str, kill: tuple[str, int]) -> None:
        """Of long ago, or never."""
        self.deliver(line, self.house.of_session(line, script, address), way, kill, is_true=False)

    @happens(unit=st.integers(1, 2), way=WAYS, kill=KILLS)
    def somebody_dials_in(self, unit: int, way: str, kill: tuple[str, int]) -> None:
        """And gets the interface that tel had, perhaps; or hangs up."""
        house = self.house
        if house.is_there(GUEST):
            house.sessions[GUEST].drop()
        else:
            house.connect(GUEST, house.unit(GUEST, unit), GUEST_ADDRESS)
        self.deliver(GUEST, house.of_session(GUEST), way, kill)

    # -- cards --

    @happens(line=CARD, address=st.sampled_from(LEASES), way=WAYS, kill=KILLS, reason=ANSWER)
    def gets_a_lease(self, line: str, address: str, way: str, kill: tuple[str, int], reason: str) -> None:
        """By dhclient-script itself, or beside it."""
        card, house = CARDS[line], self.house
        old = house.address(card)
        with house.wire.changing(again=address):
            if way == "told":
                words = {"old_ip_address": old} if old and old != address else {}
                self.world.dhclient_script(
                    "BOUND", card, new_ip_address=address, new_subnet_mask="255.255.255.0", new_routers="198.51.100.1",
                    IF_METRIC=100 if line == "cable" else 300, **words,
                )  # fmt: skip
                self.events += 1
            else:
                house.put_on(card, address)
        self.deliver(line, house.of_lease(card, reason, address, old), way, kill)

    @happens(line=CARD, reason=st.sampled_from(["EXPIRE", "RELEASE", "STOP", "FAIL"]), way=WAYS, kill=KILLS)
    def loses_its_lease(self, line: str, reason: str, way: str, kill: tuple[str, int]) -> None:
        """The address goes."""
        card, house = CARDS[line], self.house
        old = house.address(card) or LEASES[0]
        with house.wire.changing():
            if way == "told":
                self.world.dhclient_script(reason, card, old_ip_address=old)
                self.events += 1
            else:
                house.take_off(card)
        if house.address(card):  # one that the script does not know of
            self.unheard.add(line)
        self.deliver(line, house.of_lease(card, reason, old=old), way, kill, is_true=not house.address(card))

    @happens(line=CARD, address=st.sampled_from(LEASES), reason=ANYTHING, way=WAYS, kill=KILLS)
    def hears_of_another_lease(self, line: str, address: str, reason: str, way: str, kill: tuple[str, int]) -> None:
        """Of long ago, or never."""
        new, old = ("", address) if reason == "EXPIRE" else (address, "")
        self.deliver(line, self.house.of_lease(CARDS[line], reason, new, old), way, kill, is_true=False)

    @happens(address=st.sampled_from(["", *STATICS]), way=WAYS, kill=KILLS)
    def is_set_up(self, address: str, way: str, kill: tuple[str, int]) -> None:
        """The static line, up or down, by ifupdown or by hand."""
        with self.house.wire.changing(again=address):
            if address:
                self.house.put_on("wan2", address)
            else:
                self.house.take_off("wan2")
        self.deliver("fibre", self.house.of_stanza(), way, kill)

    @happens(line=st.sampled_from([*CARDS]), state=st.sampled_from(["up", "down"]))
    def is_switched(self, line: str, state: str) -> None:
        """The kernel takes its routes; nobody tells."""
        self.unheard.add(line)
        with self.house.wire.changing():
            self.box.ip(f"link set {CARDS[line]} {state}")

    # -- what comes when it comes --

    @happens(number=NUMBER)
    def hears_late(self, number: int) -> None:
        """What was on its way all the time; or all that runs has ended."""
        if not self.late:
            self.waits_for_all()
            return
        self.events += 1
        self.house.tell(self.late.pop(number % len(self.late)))
        self.changed_state()

    # -- what is done by hand --

    def synchronises(self) -> None:
        """multihook sync, and what is right again from then on."""
        done = self.command("sync")
        assert done.returncode == (78 if self.configuration in WRONG else 0), done
        if done.returncode == 0:
            self.is_synchronised()

    def is_synchronised(self) -> None:
        """By the configuration that is there now."""
        self.changed_since_sync.clear()
        self.house.wire.promise(self.configuration in GUARDED and not self.held, self.untold())

    @happens()
    def sync(self) -> None:
        """By a timer, say."""
        self.synchronises()

    @happens(kill=KILLS, words=st.sampled_from([("sync",), ("sync",), ("up", "wan2")]))
    def a_command_is_killed(self, kill: tuple[str, int], words: tuple[str, ...]) -> None:
        """Anywhere in it."""
        self.events += 1
        self.kills += self.house.killed(["/usr/bin/multihook", *words], kill[0], kill[1])

    @happens(words=st.sampled_from([("status",), ("status", "--json"), ("sync", "-n"), ("doctor",), ("check-config",)]))
    def looks(self, words: tuple[str, ...]) -> None:
        """Which changes nothing."""
        self.command(*words)

    @happens(name=st.sampled_from([*GUARDED, *GUARDED, *WRONG]))
    def configures(self, name: str) -> None:
        """Nobody is told."""
        self.changes_configuration(name)

    def changes_configuration(self, name: str) -> None:
        """To that of this name."""
        text = (GUARDED | OPEN | WRONG)[name]
        self.configuration = name
        if name not in WRONG:
            self.right = text
        if name not in GUARDED:
            self.house.wire.promise(False)
        self.changed_state()  # of lines that were none of its business nothing was kept
        self.is_tel_untold |= "[link.tel]" not in self.right
        self.may_forget_tel("configuration")
        self.world.configure(text)

    @happens(is_there=st.booleans())
    def has_a_program(self, is_there: bool) -> None:
        """In notify.d."""
        NOTIFY.mkdir(exist_ok=True)
        program = NOTIFY / "program"
        program.unlink(missing_ok=True)
        if is_there:
            program.write_text("#!/bin/sh\nexit 0\n")
            program.chmod(0o755)

    # -- dpkg --

    @happens()
    def is_replaced(self) -> None:
        """prerm of the old and preinst of the new package; the next time another of each file, and postinst.

        That is a sync, unless `multihook flush` had the last word; of an upgrade there is nothing else to say.
        """
        self.is_replacing = not self.is_replacing
        if self.is_replacing:
            self.maintain("prerm", "upgrade", "9")
            self.maintain("preinst", "upgrade", "1")
            return
        for path in [*PACKAGE.rglob("*.py"), Path("/usr/lib/multihook/event")]:
            new = path.with_suffix(".dpkg-new")
            new.write_bytes(path.read_bytes())
            new.chmod(path.stat().st_mode & 0o777)
            new.rename(path)
        said = self.maintain("postinst", "configure", "1")
        self.events += 1
        if (RUN / "held").exists():
            assert said.startswith("multihook: held by `multihook flush`: the kernel is left alone"), said
        elif self.configuration not in WRONG:
            assert said == ""
            self.is_synchronised()
            self.waits_for_all()  # one that is not done with its event may be just about to spool it
            assert not SPOOL.is_dir() or list(SPOOL.iterdir()) == []

    def maintain(self, script: str, *words: str) -> str:
        """What a maintainer script says."""
        # Not `ip netns exec`: with mounts of its own, the box would look like a chroot to it.
        inside = ["nsenter", f"--net=/run/netns/{self.box.name}"]
        done = run_tool(*inside, "sh", str(MAINTAINER / f"multihook.{script}"), *words)
        said = f"{done.stdout}{done.stderr}"
        assert "Traceback" not in said and "chroot" not in said, said
        return said

    # -- harm --

    @happens(what=LOST)
    def state_is_lost(self, what: str) -> None:
        """A tmpfs that was unmounted, an rm -r."""
        self.lost_state()
        if what in ("all of /run", "everything"):
            lose(RUN)
            self.is_replacing = False
        if what in ("all of /var", "everything"):
            lose(VAR)
        if what == "leases":
            lose(RUN / "leases")
        if what == "private":
            lose(PRIVATE)
            self.is_replacing = False
        if what in ("certificate", "lock"):
            (PRIVATE / {"certificate": "applied", "lock": "lock"}[what]).unlink(missing_ok=True)

    @happens(number=NUMBER, way=st.sampled_from(["missing", "empty", "half", "noise", "foreign owner"]))
    def state_is_damaged(self, number: int, way: str) -> None:
        """One file of it."""
        self.lost_state()
        found = (path for top in (RUN, VAR) for path in top.rglob("*"))
        files = sorted(path for path in found if path.is_file() and path.name != "upgrading")
        if not files:
            return
        path = files[number % len(files)]
        with suppress(FileNotFoundError):  # a hook that runs may be done with it
            content = path.read_bytes()
            left = {"empty": b"", "half": content[: len(content) // 2], "noise": bytes(range(255, 0, -1)) * 4}
            if way == "missing":
                path.unlink()
            elif way == "foreign owner":
                os.chown(path, 65534, 65534)
            else:
                path.write_bytes(left[way])

    @happens(number=NUMBER, value=st.integers(0, 2), option=OPTION)
    def a_sysctl_is_set(self, number: int, value: int, option: str) -> None:
        """By `sysctl --system`."""
        line = LINES[number % len(LINES)]
        if self.box.interface(line):
            self.are_sysctls_unsure = True
            most = 2 if option in ("rp_filter", "arp_announce") else 1
            self.box.sysctl(f"net.ipv4.conf.{line}.{option}", min(value, most))

    @happens(number=NUMBER, word=st.sampled_from(["add", "add", "del"]))
    def others_work(self, number: int, word: str) -> None:
        """A VPN comes and goes, a container does."""
        kind, rest = (
            ("rule", f"from 10.79.{number}.0/24 lookup 77 priority {600 + number}"),
            ("rule", f"fwmark {number + 1} lookup 77 priority {7150 + number}"),
            ("route", f"10.{80 + number}.0.0/16 via 192.168.1.254 dev lan0"),
            ("route", f"10.{80 + number}.0.0/16 via 192.168.1.254 dev lan0 table 78"),
        )[number % 4]
        self.box.run("ip", kind, word, *rest.split(), check=False)
        self.box.run("nft", f"{'add' if word == 'add' else 'delete'} table ip foreign{number % 3}", check=False)

    # -- the end --

    def silent(self) -> list[str]:
        """Sessions and cards of which the kernel and the configuration alone do not tell all: their programs have to.

        By an interface that is set down no address is taken for the link's unless somebody said that it is. That an
        interface is not tel's any more only the guest's program tells, so that is the last to be heard.
        """
        down = self.switched_off()
        found = [line for line in ALL if line == "tel" or f"[link.{line}]" not in self.right or line in down]
        return [*found, GUEST] if self.house.is_there(GUEST) else found

    def switched_off(self) -> set[str]:
        """Lines whose card somebody has set down."""
        return {line for line, card in CARDS.items() if not self.is_switched_on(card)}

    def is_switched_on(self, card: str) -> bool:
        """Whether nobody has set it down."""
        interface = self.box.interface(card)
        return interface is not None and "UP" in interface["flags"]

    def settle(self) -> None:
        """All that runs ends, what is late arrives, and of each line the truth is known."""
        self.waits_for_all()
        if self.is_replacing:
            (PRIVATE / "upgrading").unlink(missing_ok=True)
            self.is_replacing = False
        for tidings in self.late:
            self.house.tell(tidings)
            self.changed_state()
        if self.configuration in WRONG:
            self.world.configure(self.right)
        self.parts_shared_addresses()
        self.leaves_other_groups()
        silent = self.silent()
        for line in (*ALL, GUEST):
            if line in self.held or (line in self.unheard and line in silent):
                self.house.tell(self.house.truth(line))
        self.held.clear()
        self.is_tel_untold = False

    def parts_shared_addresses(self) -> None:
        """Of two lines with one address who has had it longest keeps it: no fact that a fresh boot could know."""
        house = self.house
        with house.wire.changing():
            if house.has_address("tel") and house.address("ppp0") == house.sessions["tel"].local:
                house.sessions["tel"].readdress("203.0.113.20")
                self.unheard.add("tel")
            if house.address("wan1") and house.address("wan1") == house.address("wan3"):
                state = "up" if self.is_switched_on("wan3") else "down"
                house.put_on("wan3", "198.51.100.120")
                self.box.ip(f"link set wan3 {state}")
                self.unheard.add("spare")

    def leaves_other_groups(self) -> None:
        """Nobody knows any more, or ever knew, that an interface is in one that was ours in another configuration."""
        group = "110" if self.right == GUARDED["group and base"] else "109"
        for entry in self.box.ip_json("link"):
            if str(entry["group"]) in {*GROUPS} - {group} and (entry["ifname"] == "lan0" or self.is_state_lost):
                self.box.ip(f"link set {entry['ifname']} group 0")

    def waits_for_all(self) -> None:
        """Nothing runs in the box afterwards."""
        for process in self.running:
            assert process.wait(30) == 0
        self.running.clear()
        self.world.settle()

    def judge(self) -> None:
        """See the module."""
        house, world = self.house, self.world
        self.settle()
        before = house.foreign()
        assert house.damaged(before) == {}
        said = house.sync()
        left = house.ours()
        assert_same(before, house.foreign())
        self.judge_wire()
        world.settle()
        assert house.leftovers() == []
        if house.is_there(GUEST) and not self.are_sysctls_unsure:
            assert house.ours_on(house.sessions[GUEST].interface) == []
        assert world.multihook("status").returncode in (0, 3)
        self.assert_second_run_changes_nothing(left, said)
        assert house.wire.wrong() == []
        self.judged += house.wire.seen()
        problems = [line for line in world.log.lines() if "internal error" in line or "Traceback" in line]
        assert problems == []
        house.wipe()
        assert_same(before, house.foreign())
        for line in self.silent():
            house.tell(house.truth(line))
        house.sync()
        fresh = house.ours()
        if self.are_sysctls_unsure:
            left["sysctls"] = {name: left["sysctls"][name] for name in house.set_by_us(fresh)}
            fresh["sysctls"] = house.set_by_us(fresh)
        assert_same(left, fresh)

    def judge_wire(self) -> None:
        """By what was promised on the way; from here on, where each line is a link, by what one run has mended.

        Unless a rule of somebody else's stands where ours do and leads an address by another line: it is left alone.
        """
        wire = self.house.wire
        assert wire.wrong() == []
        self.judged += wire.seen()
        assert self.judged > 0
        wire.forget()
        astray = [line for line in self.world.rules() if line.startswith("7400:") and "proto 109" not in line]
        if self.right in GUARDED.values() and not astray:
            wire.promise(True)
            wire.let_send()
            assert wire.wrong() == []

    def assert_second_run_changes_nothing(self, left: dict[str, Any], said: str) -> None:
        """Not in the kernel, not on disk, not in the log."""
        self.world.log.clear()
        state = self.house.state()
        with self.world.ip_monitor() as heard:
            again = self.house.sync()
        assert list(heard) == [], said
        assert self.world.log.lines() == []
        assert again.endswith("nothing to change.\n") or again == said, again
        assert_same(state, self.house.state())
        assert_same(left, self.house.ours())

    def teardown(self) -> None:
        """The judgement is part of the history, unless that did not even come to its end."""
        is_whole = sys.exc_info()[0] is None
        if not self.house:
            if is_whole:
                hypothesis.reject()  # too short to be worth a house
            return
        try:
            if is_whole and not self.is_broken:
                self.judge()
                counts = (1, self.happenings, self.events, self.kills, self.judged)
                for what, number in zip(self.survived, counts, strict=True):
                    self.survived[what] += number
        finally:
            self.house.close()
            self.world.close()


class BadMonth(History):
    """The same with people and programs who take away what is ours, and lines that are none or adopted."""

    @happens(name=st.sampled_from([*OPEN, *OPEN, *GUARDED]))
    def configures_less(self, name: str) -> None:
        """Not every line is a link any more."""
        self.changes_configuration(name)

    @happens(kill=KILLS)
    def a_flush_is_killed(self, kill: tuple[str, int]) -> None:
        """Anywhere in it."""
        self.house.wire.promise(False)
        self.may_forget_tel("rules")
        self.events += 1
        self.kills += self.house.killed(["/usr/bin/multihook", "flush", "--once"], *kill)

    @happens(line=st.sampled_from(["dsl", "cable", "fibre"]))
    def holds_down(self, line: str) -> None:
        """multihook down."""
        self.house.wire.promise(False)
        self.held.add(line)
        self.command("down", CARDS.get(line, "ppp0"))

    @happens(once=st.booleans())
    def flush(self, once: bool) -> None:
        """multihook flush."""
        self.house.wire.promise(False)
        self.may_forget_tel("rules")
        self.command("flush", *(["--once"] if once else []))

    @happens(number=NUMBER, what=DELETED)
    def ours_is_deleted(self, number: int, what: str) -> None:
        """From the kernel, by somebody who does not know what it is."""
        self.house.wire.promise(False)
        self.may_forget_tel("rules")
        if what == "rule":
            lines = [line for line in self.world.rules() if "proto 109" in line]
            for line in lines[number % len(lines) :][:1] if lines else []:
                priority, rest = line.replace("[detached] ", "").split(":", 1)
                self.box.ip(f"rule del priority {priority} {rest.replace('from all ', '').strip()}")
        elif what == "route":
            lines = [line for line in self.world.routes("all") if "proto 109" in line]
            for line in lines[number % len(lines) :][:1] if lines else []:
                dead = ("linkdown", "dead", "[detached]")
                self.box.ip("route del " + " ".join(word for word in line.split() if word not in dead))
        elif what == "group":
            for line in LINES:
                if self.box.interface(line):
                    self.box.ip(f"link set {line} group 0")
        elif what == "rules":
            self.box.run("ip", "rule", "flush", "protocol", "109")
        elif what == "table":
            self.box.run("ip", "route", "flush", "table", str(200 + number % 5), check=False)
        else:
            self.box.run("ip", "route", "flush", "table", "all", "protocol", "109", check=False)

    @happens(what=st.sampled_from(["table", "ruleset", "map snat4", "map translate4", "rule", "set", "chain"]))
    def nftables_is_changed(self, what: str) -> None:
        """As nftables.service does, or a person."""
        self.house.wire.promise(False)
        words = {
            "table": "delete table inet multihook", "ruleset": f"flush ruleset; {FIREWALL}",
            "rule": "insert rule inet multihook guard accept",
            "set": "add element inet multihook translate4 { wan9 : drop }", "chain": "flush chain inet multihook auto4",
        }.get(what, f"flush {what.replace(' ', ' inet multihook ')}")  # fmt: skip
        self.box.run("nft", words, check=False)

    @happens(number=NUMBER)
    def a_false_one_appears(self, number: int) -> None:
        """With our protocol, from a former life, or with another's where ours stand."""
        self.house.wire.promise(False)
        self.box.run("ip", *(
            "rule add from 203.0.113.99 lookup 200 priority 7400 protocol 109",
            "rule add from 203.0.113.99 lookup main suppress_prefixlength 1 priority 7200 protocol 109",
            "rule add to 198.51.100.250 lookup 202 priority 7500 protocol 109",
            "route add 192.0.2.128/25 dev lo table 203 protocol 109",
            "route add unreachable default table 299 metric 4294967295 protocol 109",
            f"rule add from {SESSIONS[number % 4]} lookup 200 priority 7400 protocol static",
            f"rule add from {LEASES[number % 4]} lookup 202 priority 7400",
            "route add 10.5.0.0/16 dev lo table 200 proto static",
            "link set lan0 group 109",
        )[number % 9].split(), check=False)  # fmt: skip


@pytest.mark.fault("F4", "F9", "F15", "F16", "F38", "F43", "F70")
@pytest.mark.timeout(86400 if LONG else 280)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [History, BadMonth])
def test_after_any_history_one_run_gives_what_a_fresh_boot_gives(
    pristine: Pristine, kind: type[History], seed: int
) -> None:
    """Histories of fixed seeds; in the long run of one seed after the other."""
    kind.pristine = pristine
    kind.survived = dict.fromkeys(kind.survived, 0)
    try:
        live(kind, seed)
        while kind.survived["events"] < LONG // 2:
            seed += 1
            live(kind, seed)
    finally:
        done = ", ".join(f"{number} {what}" for what, number in kind.survived.items())
        REPORT.append(f"histories: {kind.__name__}, up to seed {seed}: survived {done}")


def live(kind: type[History], seed: int) -> None:
    """Some histories; the first that ends wrong is printed step by step."""
    hypothesis.seed(seed)(kind)
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=HISTORIES, stateful_step_count=MOST, database=None, deadline=None, print_blob=True,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
