"""Sysctls against painted files: what is wanted where, what is kept on record, and that it all comes back."""

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from kill_points import Killed
from painted_kernel import Painted, pack
from painted_machine import Machine
from painted_view import lease, view_of

from multihook import census, engine, files, oldvalues
from multihook.address import INET
from multihook.features import sysctls
from multihook.kernel import sysctl
from multihook.kind import GUARD, LOOKUP, SETTING, Step
from multihook.view import View

pytestmark = pytest.mark.usefixtures("painted_names")

OURS = {"rp_filter": 2, "src_valid_mark": 1, "arp_ignore": 1, "arp_announce": 2, "arp_filter": 1}
ICMP = "icmp_errors_use_inbound_ifaddr"
TWO = '[link.a]\ninterface = "eth1"\ntable = 201\n[link.b]\ninterface = "eth2"\ntable = 202\n'
PPP = '[link.a]\ninterface = "eth1"\ntable = 201\n[link.p]\nipparam = "p"\ntable = 202\n'


class Knobs:
    """/proc/sys/net/ipv4 in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "conf").mkdir(parents=True)
        (root / ICMP).write_text("0\n")
        for name in ("all", "default"):
            self.interface(name)

    def interface(self, name: str, **values: int) -> None:
        (self.root / "conf" / name).mkdir(exist_ok=True)
        for option in OURS:
            (self.root / "conf" / name / option).write_text(f"{values.get(option, 0)}\n")

    def of(self, name: str) -> dict[str, int]:
        """What is not 0."""
        found = {option: int((self.root / "conf" / name / option).read_text()) for option in OURS}
        return {option: value for option, value in found.items() if value}

    def put(self, name: str, option: str, value: int) -> None:
        (self.root / "conf" / name / option).write_text(f"{value}\n")


@pytest.fixture
def knobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Knobs:
    made = Knobs(tmp_path / "ipv4")
    monkeypatch.setattr(sysctl, "SYSCTL_IPV4", str(made.root))
    for name in ("RUN", "PRIVATE", "SYSCTLS"):
        monkeypatch.setattr(oldvalues, name, str(tmp_path / name))
    os.umask(0o022)
    return made


def wanted(view: View) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in sysctl.KIND.possible(view, sysctls.desired(view)):
        assert one.value == {**OURS, ICMP: 1}[one.option]
        found.setdefault(one.interface, set()).add(one.option)
    return found


LINK = {"rp_filter", "src_valid_mark"}
CARD = {*LINK, "arp_ignore", "arp_announce"}


def cards(kernel: Painted, first: str = "198.51.100.7/24", second: str = "203.0.113.7/24") -> None:
    kernel.link("eth1", first)
    kernel.link("eth2", second)


A, B = lease("a", "eth1", address="198.51.100.7"), lease("b", "eth2", address="203.0.113.7")


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_wanted_of_a_card(knobs: Knobs, whole: bool) -> None:
    for name in ("eth1", "eth2", "ppp0", "lan0"):
        knobs.interface(name)
    only = "" if whole else "a"

    def of(kernel: Painted, settings: str = TWO, *more: object, several: bool = True) -> set[str]:
        known = more or (A, B)
        view = view_of(kernel, settings, *known, whole=whole, several=several, only=only)  # type: ignore[arg-type]
        return wanted(view).get("eth1", set())

    kernel = Painted()
    cards(kernel)
    assert of(kernel) == CARD
    assert of(kernel, several=False) == set()
    # Alone among cards there is nobody to be taken for; and what is behind a LAN card is not ours to rule.
    assert of(kernel, PPP, A) == LINK
    assert of(kernel, TWO.replace("201\n", "201\nlan = true\n")) == LINK
    # Somebody counts on its answers.
    assert of(kernel, TWO.replace("201\n", '201\nsources = ["192.0.2.0/28"]\n')) == CARD - {"arp_ignore"}
    kernel.link("lan0", "198.51.100.130/25")
    assert of(kernel) == CARD - {"arp_ignore"}
    # Shared with the other link: known by its group to an event.
    kernel = Painted()
    cards(kernel, second="198.51.100.8/24")
    kernel.set("eth2", group=109)
    second = lease("b", "eth2", address="198.51.100.8")
    assert of(kernel, TWO, A, second) == {*CARD, "arp_filter"}
    # Another program's group: the other link's rules do not leave out what main has by this interface.
    kernel.set("eth1", group=5)
    assert of(kernel, TWO, A, second) == CARD
    kernel.set("eth1", group=0)
    # Not while that is held out, or down with another address there: but it is still not a stranger.
    kernel.set("eth2", group=0)
    held = second.copy()
    held.held = True
    assert of(kernel, TWO, A, held) == CARD
    # Down: only what keeps it quiet.
    kernel = Painted()
    kernel.link("eth1")
    kernel.link("eth2", "198.51.100.8/24")
    down = lease("a", "eth1", withdrawn=True)
    assert of(kernel, TWO, down) == {"arp_ignore", "arp_announce"}
    down.held = True
    assert of(kernel, TWO, down) == set()


def test_a_point_to_point_link_speaks_no_arp(knobs: Knobs) -> None:
    knobs.interface("ppp0")
    kernel = Painted()
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    view = view_of(kernel, TWO.replace("eth1", "ppp0"), lease("a", "ppp0", address="203.0.113.45"))
    assert wanted(view) == {"ppp0": LINK}


@pytest.mark.fault("F48")
def test_an_option_that_this_kernel_has_not_is_not_wanted(knobs: Knobs) -> None:
    knobs.interface("eth1")
    (knobs.root / "conf/eth1/src_valid_mark").unlink()
    kernel = Painted()
    cards(kernel)
    assert wanted(view_of(kernel, TWO, A, B)) == {"eth1": CARD - {"src_valid_mark"}}


def test_only_arp_filter_waits_for_the_rules() -> None:
    stages = {option: sysctl.Setting("eth1", 2, option, 1).stage for option in OURS}
    assert stages.pop("arp_filter") == SETTING > LOOKUP
    assert set(stages.values()) == {GUARD}


@pytest.mark.fault("F31")
def test_commands_name_an_interface_with_dots_by_slashes() -> None:
    assert sysctl.command("eth0", "rp_filter", 2) == "sysctl -qw net.ipv4.conf.eth0.rp_filter=2"
    assert sysctl.command("eth0.7", "rp_filter", 2) == "sysctl -qw net/ipv4/conf/eth0.7/rp_filter=2"
    assert sysctl.command("", ICMP, 1) == f"sysctl -qw net.ipv4.{ICMP}=1"


def test_a_symbolic_link_is_not_followed(knobs: Knobs, tmp_path: Path) -> None:
    knobs.interface("eth1")
    (tmp_path / "prize").write_text("7\n")
    path = knobs.root / "conf/eth1/rp_filter"
    path.unlink()
    path.symlink_to(tmp_path / "prize")
    assert sysctl.get("eth1", "rp_filter") is None
    with pytest.raises(OSError):
        sysctl.put("eth1", "rp_filter", 2)
    assert (tmp_path / "prize").read_text() == "7\n"


def test_overlapping_is_as_the_masks_say() -> None:
    rng = random.Random(7)
    for _ in range(40):
        kernel = Painted()
        blocks = {}
        for number in range(12):
            length = rng.choice((8, 12, 16, 20, 24, 25, 30, 32))
            local = f"10.{rng.choice((0, 1, 16))}.{rng.choice((0, 1, 7, 128))}.{rng.choice((1, 5, 129, 200))}"
            index = kernel.link(f"e{number}")
            kernel.address(f"e{number}", f"{local}/{length}", connected=False)
            blocks[index] = (int.from_bytes(pack(local), "big"), length)
        facts = kernel.facts()
        for interface in facts.interfaces.values():
            if interface.index not in blocks:
                continue
            address, length = blocks[interface.index]
            expected = {
                other for other, (there, its) in blocks.items()
                if other != interface.index and address >> 32 - min(length, its) == there >> 32 - min(length, its)
            }  # fmt: skip
            assert facts.neighbours(interface, INET) == expected


# --- the record ---


@pytest.mark.fault("F18")
@pytest.mark.parametrize(
    "content",
    [
        "", "end\n", "multihook sysctls 1\nindex 2\nrp_filter 1\n", "multihook sysctls 2\nindex 2\nrp_filter 1\nend\n",
        "multihook sysctls 1\nindex 2\nrp_filter 1\nend", "\xff\xfe\0",
    ],
)  # fmt: skip
def test_a_damaged_record_is_as_none(content: str) -> None:
    with pytest.raises(ValueError):
        oldvalues.parse(content.encode("latin-1"), 2, OURS)


def test_a_record_of_another_interface_or_of_nonsense_says_nothing() -> None:
    good = b"multihook sysctls 1\nindex 2\nrp_filter 1\nforwarding 1\narp_filter x\narp_ignore -1\nend\n"
    assert oldvalues.parse(good, 2, OURS) == {"rp_filter": 1}
    assert oldvalues.parse(good, 3, OURS) == {}
    assert oldvalues.parse(b"multihook sysctls 1\nrp_filter 1\nend\n", 2, OURS) == {}


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_read_adds_up_to_the_signature(knobs: Knobs, whole: bool) -> None:
    """Else an event would look at everything for nothing, or not see what it has to."""
    for name, value in (("eth1", 2), ("eth2", 1), ("wan9", 2)):
        knobs.interface(name, rp_filter=value)
    kernel = Painted()
    cards(kernel)
    kernel.link("wan9")
    view = view_of(kernel, TWO, A, B, whole=whole, only="" if whole else "a")
    before = {"rp_filter": 0}
    oldvalues.store("eth1", view.facts.interfaces["eth1"].index, before)
    oldvalues.store("eth2", 7777, before)  # of another interface that had the name
    oldvalues.store("wan9", 7777, before)  # that of a link which is no more
    oldvalues.store("", 0, {ICMP: 0})
    read = sysctl.KIND.read(view, sysctl.KIND.possible(view, sysctls.desired(view)))
    assert {one.interface for one in read} == ({"eth1", "eth2", ""} if whole else {"eth1"})
    signature = sysctl.KIND.signature(view, [], True)
    assert signature == {"sysctl eth1": 2, "sysctl eth2": 1, "sysctl wan9": 2}
    assert sysctl.KIND.tally(view, read) == (signature if whole else {"sysctl eth1": 2})
    assert sysctl.KIND.signature(view, [], False) == {}


OLD = {"eth1": {"rp_filter": 1, "arp_announce": 1}, "eth2": {"src_valid_mark": 1, "rp_filter": 2}}
OLD_ONES = {name: {option: value for option, value in values.items() if value} for name, values in OLD.items()}


def start(one: Machine) -> Knobs:
    """Two cards on one segment, values of somebody's on both, one of them what we would set."""
    knobs = Knobs(one.root / "proc/sys/net/ipv4")
    for name, values in OLD.items():
        knobs.interface(name, **values)
    cards(one.kernel, second="198.51.100.8/24")
    for name in OLD:
        one.kernel.route("default", name, via="198.51.100.1")
    one.configure(TWO)
    return knobs


def end(one: Machine, knobs: Knobs) -> tuple[dict[str, int], dict[str, int]]:
    one.configure("[multihook]\nadopt = false\n")
    one.sync()
    assert not list((one.root / "run/multihook/private/sysctls").iterdir())
    return knobs.of("eth1"), knobs.of("eth2")


def test_what_was_there_comes_back(machine: Machine) -> None:
    knobs = start(machine)
    outcome = machine.sync()
    assert outcome.failures == [] and outcome.warnings == []
    assert knobs.of("eth1") == knobs.of("eth2") == OURS
    # rp_filter of eth2 was right already, and is not counted.
    assert outcome.made["a"].startswith("5 sysctls, ") and outcome.made["b"].startswith("3 sysctls, ")
    before = machine.files()
    assert machine.sync().made == {} and machine.files() == before
    assert end(machine, knobs) == (OLD_ONES["eth1"], OLD_ONES["eth2"])


@pytest.mark.thorough
@pytest.mark.fault("F15")
def test_killed_at_any_step_it_ends_the_same_and_all_comes_back(machines: Callable[[], Machine]) -> None:
    """Also between the record and the value, in both directions."""
    done = 0
    for count in range(200):
        one = machines()
        knobs = start(one)
        left = [count]

        def step(real: Callable[..., object], left: list[int] = left) -> Callable[..., object]:
            def wrapped(*arguments: object, **more: object) -> object:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return real(*arguments, **more)

            return wrapped

        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(sysctl, "put", step(sysctl.put))
            patches.setattr(files, "rename", step(files.rename))
            patches.setattr(oldvalues, "remove", step(oldvalues.remove))
            for action in (one.sync, partial(end, one, knobs)):
                try:
                    action()
                except Killed:
                    left[0] = -1
                    action()
                    done += 1
        assert (knobs.of("eth1"), knobs.of("eth2")) == (OLD_ONES["eth1"], OLD_ONES["eth2"]), count
        if left[0] > 0:
            break
    assert done > 20 and left[0] > 0


def test_a_record_that_cannot_be_written_is_said_once_and_the_values_are_set(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    knobs = start(machine)
    real = oldvalues.replace

    def full(path: str, *more: object) -> None:
        if path.startswith(oldvalues.SYSCTLS):
            raise OSError(28, "No space left on device", path)
        real(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(oldvalues, "replace", full)
    outcome = machine.sync()
    assert knobs.of("eth1") == knobs.of("eth2") == OURS and outcome.failures == []
    assert len(outcome.warnings) == 1 and outcome.warnings[0].startswith("state is not saved: ")
    assert machine.sync().made == {}


def test_a_value_that_is_refused_is_one_line_and_nothing_else_fails(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(machine)

    def refuse(interface: str, option: str, value: int) -> None:
        raise PermissionError(13, "Permission denied", f"/proc/{option}")

    monkeypatch.setattr(sysctl, "put", refuse)
    outcome = machine.sync()
    assert outcome.failures == [] and len(outcome.warnings) == 1
    assert "/proc/arp_announce: Permission denied" in outcome.warnings[0]
    assert "200" not in outcome.made and any("7400" in line for line in machine.kernel.shown())


def test_a_value_that_somebody_changed_is_not_put_back(machine: Machine) -> None:
    knobs = start(machine)
    machine.sync()
    knobs.put("eth1", "rp_filter", 0)
    view = census.of_everything(machine.config, machine.kernel.door(), []).view(machine.kernel.door(), None)
    (line,) = engine.commands(view, engine.plan(view))
    assert line == "sysctl -qw net.ipv4.conf.eth1.rp_filter=2"
    assert end(machine, knobs)[0] == {"arp_announce": 1}


def test_a_step_that_only_keeps_the_record_is_no_command() -> None:
    old, new = sysctl.Setting("eth1", 2, "rp_filter", 2, is_kept=False), sysctl.Setting("eth1", 2, "rp_filter", 2)
    assert old != new
    assert sysctl.KIND.commands(None, Step(old, new)) == []  # type: ignore[arg-type]
    unchanged = sysctl.Setting("eth1", 2, "rp_filter", 2, before=2)
    assert sysctl.KIND.commands(None, Step(unchanged, None)) == []  # type: ignore[arg-type]
