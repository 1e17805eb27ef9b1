"""What is known about each link: its record on disk, what events make of it, and what the kernel leaves of that."""

import os
import random
import re
from pathlib import Path

import painted_view
import pytest
from painted_kernel import DEPRECATED, SECONDARY, Painted, address

from multihook import files, leases, sources
from multihook.address import INET, text
from multihook.leases import Lease
from multihook.sources import CHECK, DOWN, UP, Event

CAPTURES = Path(__file__).parent.parent / "captures"

FIELDS = list(Lease.__slots__)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    os.umask(0o022)
    monkeypatch.setattr(leases, "LEASES", str(tmp_path / "leases"))
    return tmp_path / "leases"


def lease(interface: str = "ppp0", link: str = "dsl", **values: object) -> Lease:
    """A record; addresses in their usual notation."""
    return painted_view.lease(link, interface, **values)


def full() -> Lease:
    return lease(
        source="dhclient", reason="BOUND", ipparam="$(reboot) ;id", linkname="l 1 ", address="203.0.113.45",
        former="203.0.113.44",
        gateway="192.0.2.1", server="192.0.2.2", resolvers=[address("192.0.2.53"), address("192.0.2.54")], since=77,
        changed=99,
        prefixlen=24, withdrawn=True, held=True, by_default=True,
        routes=[(address("10.0.0.0"), 8, address("192.0.2.1")), (address("192.0.2.64"), 26, bytes(4))],
    )  # fmt: skip


def fields(one: Lease | None) -> dict[str, object] | None:
    return one and {name: getattr(one, name) for name in FIELDS}


# --- on disk ---


def test_a_record_comes_back_as_it_was_kept(folder: Path) -> None:
    for one in (full(), lease(), lease(link="a" * 16, interface="x" * 15), lease(ipparam="é ü", linkname="\\n\\0'\"")):
        leases.store(one)
        assert fields(leases.load(one.link, INET)) == fields(one)
    assert folder.stat().st_mode & 0o7777 == 0o755
    assert (folder / "dsl.inet").stat().st_mode & 0o7777 == 0o644


def test_a_copy_says_the_same_and_stands_alone() -> None:
    one = full()
    other = one.copy()
    assert fields(other) == fields(one)
    other.resolvers.append(b"")
    other.routes.clear()
    assert (len(one.resolvers), len(one.routes)) == (2, 2)


def test_there_is_no_record_of_an_unknown_link(folder: Path) -> None:
    assert leases.load("dsl", INET) is None
    assert ([link for link, _ in leases.keys()], leases.load_all()) == ([], {})
    leases.store(full())
    assert leases.load("cable", INET) is None
    assert ([link for link, _ in leases.keys()], [link for link, _ in leases.load_all()]) == (["dsl"], ["dsl"])
    leases.forget("dsl", INET)
    leases.forget("dsl", INET)
    assert [link for link, _ in leases.keys()] == []


@pytest.mark.fault("F18")
def test_a_record_cut_off_at_any_byte_is_as_none(folder: Path) -> None:
    leases.store(full())
    whole = (folder / "dsl.inet").read_bytes()
    for length in range(len(whole)):
        (folder / "dsl.inet").write_bytes(whole[:length])
        assert leases.load("dsl", INET) is None, whole[:length]
        assert leases.load_all() == {}


def test_a_record_with_any_line_missing_is_as_none(folder: Path) -> None:
    lines = full().render().splitlines(keepends=True)
    folder.mkdir()
    for number in range(len(lines)):
        (folder / "dsl.inet").write_text("".join(lines[:number] + lines[number + 1 :]))
        assert leases.load("dsl", INET) is None, lines[number]
    (folder / "dsl.inet").write_text("".join(lines))
    assert leases.load("dsl", INET)


@pytest.mark.fault("F18")
@pytest.mark.parametrize("line, instead", [
    ("multihook lease 1", "multihook lease 2"), ("link dsl", "link cable"), ("link dsl", "link main"),
    ("link dsl", "link ../dsl"),
    ("family inet", "family inet6x"), ("family inet", "family "), ("interface ppp0", "interface c*"),
    ("interface ppp0", "interface ppp0;id"),
    ("interface ppp0", "interface"), ("source dhclient", "source me"), ("address 203.0.113.45", "address 203.0.113"),
    ("address 203.0.113.45", "address "), ("address 203.0.113.45", "address 203.0.113.45/24"),
    ("gateway 192.0.2.1", "gateway x"),
    ("since 77", "since x"), ("since 77", "since "), ("since 77", "since 1e3"), ("prefixlen 24", "prefixlen -"),
    ("changed 99", "changed"),
    ("resolvers 192.0.2.53", "resolvers 192.0.2.53,"), ("10.0.0.0/8>", "10.0.0.1/8>"), ("10.0.0.0/8>", "10.0.0.0/33>"),
    ("10.0.0.0/8>192.0.2.1", "10.0.0.0/8>x"), ("since 77", "since " + "9" * 5000), ("end", "END"),
])  # fmt: skip
def test_a_record_with_a_wrong_value_is_as_none(folder: Path, line: str, instead: str) -> None:
    folder.mkdir()
    right = full().render()
    assert line in right
    (folder / "dsl.inet").write_text(right)
    assert leases.load("dsl", INET)
    (folder / "dsl.inet").write_text(right.replace(line, instead))
    assert leases.load("dsl", INET) is None
    assert leases.load_all() == {}


def test_a_record_with_any_byte_turned_never_makes_the_reader_fail(folder: Path) -> None:
    folder.mkdir()
    whole = full().render().encode()
    chance = random.Random(2)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] = chance.choice(b"\0\n 9-x\xff")
        (folder / "dsl.inet").write_bytes(damaged)
        found = leases.load("dsl", INET)
        assert found is None or found.link == "dsl"


@pytest.mark.fault("F18")
def test_a_record_that_is_not_ours_to_believe_is_as_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases.store(full())
    path = folder / "dsl.inet"
    path.chmod(0o666)
    assert leases.load("dsl", INET) is None
    path.chmod(0o644)
    path.rename(folder / "elsewhere")
    path.symlink_to("elsewhere")
    assert leases.load("dsl", INET) is None
    path.unlink()
    os.mkfifo(path)
    assert leases.load("dsl", INET) is None
    path.unlink()
    path.mkdir()
    assert leases.load("dsl", INET) is None
    path.rmdir()
    (folder / "elsewhere").rename(path)
    assert leases.load("dsl", INET)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        monkeypatch.setattr(files, "geteuid", lambda: 12345)
    assert leases.load("dsl", INET) is None


def test_other_files_among_the_records_are_passed_over(folder: Path) -> None:
    leases.store(full())
    for name in ("dsl.inet.77.new", "README", ".inet", "x", "dsl.inet6"):
        (folder / name).write_text(full().render())
    assert [link for link, _ in leases.load_all()] == ["dsl"]


def test_records_are_neither_kept_in_nor_read_through_a_folder_of_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")
    with pytest.raises(OSError):
        leases.store(full())
    assert os.listdir(tmp_path / "elsewhere") == []


# --- events ---


def event(
    action: str = UP, source: str = "pppd", interface: str = "ppp0", address_: str = "203.0.113.45", gateway: str = "",
    reason: str = "",
    resolvers: tuple[str, ...] = (), ipparam: str = "", server: str = "",
) -> Event:  # fmt: skip
    made = Event(source, reason or {UP: "ip-up", DOWN: "ip-down", CHECK: "check"}[action], interface, action)
    made.address = address(address_) if address_ else b""
    made.gateway = address(gateway) if gateway else b""
    made.server = address(server) if server else b""
    made.resolvers = [address(one) for one in resolvers]
    made.ipparam = ipparam
    return made


def test_the_first_word_of_a_link_is_kept_whole() -> None:
    told = event(
        source="dhclient",
        reason="BOUND",
        gateway="203.0.113.1",
        resolvers=("203.0.113.53",),
        ipparam="x",
        server="203.0.113.2",
    )
    known = leases.record(None, told, "dsl")
    assert known.link == "dsl"
    for name in ("interface", "source", "reason", "address", "gateway", "server", "resolvers", "ipparam"):
        assert getattr(known, name) == getattr(told, name), name
    assert not known.withdrawn and not known.held


def test_a_record_is_never_changed_in_place() -> None:
    known = full()
    before = known.render()
    leases.record(known, event(address_="203.0.113.99"), "dsl")
    leases.record(known, event(DOWN, address_=""), "dsl")
    assert known.render() == before


def test_a_new_address_replaces_the_old_one_and_all_that_came_with_it() -> None:
    first = leases.record(
        None, event(source="dhclient", gateway="203.0.113.1", server="203.0.113.2", resolvers=("203.0.113.53",)), "dsl"
    )
    second = leases.record(first, event(source="dhclient", address_="198.51.100.7", gateway="198.51.100.1"), "dsl")
    assert (text(second.address), text(second.former), text(second.gateway)) == (
        "198.51.100.7",
        "203.0.113.45",
        "198.51.100.1",
    )
    assert (second.server, second.resolvers) == (b"", [])
    third = leases.record(second, event(address_="192.0.2.7"), "dsl")
    assert (text(third.address), text(third.former), third.gateway) == ("192.0.2.7", "198.51.100.7", b"")


# pppd, DHCP client > ifupdown > boot run (DESIGN 4.4)
@pytest.mark.parametrize("better, worse", [
    ("pppd", "ifupdown"), ("dhclient", "ifupdown"), ("dhcpcd", "ifupdown"), ("pppd", "kernel"), ("dhclient", "kernel"),
    ("ifupdown", "kernel"),
])  # fmt: skip
def test_a_source_that_knows_less_takes_nothing_away_of_the_same_address(better: str, worse: str) -> None:
    good = event(
        source=better,
        reason="better",
        gateway="203.0.113.1",
        resolvers=("203.0.113.53",),
        server="203.0.113.2",
        ipparam="x",
    )
    poor = event(source=worse, reason="worse")
    known = leases.record(leases.record(None, good, "dsl"), poor, "dsl")
    assert (known.source, known.reason) == (better, "better")
    assert (text(known.gateway), text(known.server), known.ipparam) == ("203.0.113.1", "203.0.113.2", "x")
    assert len(known.resolvers) == 1
    # another gateway of it is not believed either
    poor.gateway = address("203.0.113.9")
    assert text(leases.record(known, poor, "dsl").gateway) == "203.0.113.1"
    # it fills gaps
    bare = leases.record(None, event(source=better), "dsl")
    assert text(leases.record(bare, poor, "dsl").gateway) == "203.0.113.9"
    # the other way round the better one says all
    late = leases.record(leases.record(None, poor, "dsl"), good, "dsl")
    assert (late.source, text(late.gateway)) == (better, "203.0.113.1")
    # and of another address everybody may speak
    other = event(source=worse, address_="203.0.113.77", gateway="203.0.113.9")
    assert (text(leases.record(known, other, "dsl").address), leases.record(known, other, "dsl").source) == (
        "203.0.113.77",
        worse,
    )


def test_every_source_has_a_rank() -> None:
    assert set(sources.VARIABLES) <= set(sources.RANK)


def test_a_renewal_of_the_same_keeps_the_first_reason_so_that_nothing_is_written() -> None:
    first = leases.record(None, event(source="dhclient", reason="BOUND", gateway="203.0.113.1"), "dsl")
    renewed = leases.record(first, event(source="dhclient", reason="RENEW", gateway="203.0.113.1"), "dsl")
    assert renewed.render() == first.render()
    moved = leases.record(first, event(source="dhclient", reason="RENEW", gateway="203.0.113.9"), "dsl")
    assert text(moved.gateway) == "203.0.113.9"


def test_a_down_event_of_the_recorded_address_withdraws_it_and_says_who_did() -> None:
    known = leases.record(None, event(), "dsl")
    for told in (event(DOWN), event(DOWN, address_="")):
        gone = leases.record(known, told, "dsl")
        assert gone.withdrawn
        assert (gone.source, gone.reason) == ("pppd", "ip-down")
        assert text(gone.address) == "203.0.113.45"  # until the kernel is asked
    assert not leases.record(gone, event(), "dsl").withdrawn


@pytest.mark.fault("F4")
def test_a_down_event_of_another_address_or_interface_is_stale_and_says_nothing() -> None:
    known = leases.record(None, event(), "dsl")
    for told in (
        event(DOWN, address_="203.0.113.44"),
        event(DOWN, interface="ppp9"),
        event(DOWN, interface="ppp9", address_=""),
    ):
        assert leases.record(known, told, "dsl").render() == known.render()


def test_a_check_and_an_up_event_without_an_address_say_nothing() -> None:
    known = leases.record(None, event(source="dhclient", gateway="203.0.113.1"), "dsl")
    for told in (event(CHECK, address_=""), event(UP, address_="", gateway="203.0.113.9"), event(CHECK)):
        assert leases.record(known, told, "dsl").render() == known.render()


def test_a_down_event_of_a_link_that_nobody_knew_makes_a_record_without_an_address() -> None:
    known = leases.record(None, event(DOWN, ipparam="line"), "dsl")
    assert (known.address, known.is_up) == (b"", False)
    assert known.ipparam == "line"  # by which the configuration knew it


def test_the_next_event_ends_what_was_held_down_by_hand() -> None:
    known = leases.record(None, event(), "dsl")
    known.held = True
    assert not known.is_up
    assert leases.record(known, event(), "dsl").is_up


# --- the kernel has the last word ---


def ppp(*addresses: str, name: str = "ppp0", **options: bool) -> Painted:
    kernel = Painted()
    kernel.link(name, *addresses, ppp=True, **options)
    return kernel


def ethernet(*addresses: str, router: str = "", **options: bool) -> Painted:
    kernel = Painted()
    kernel.link("eth1", *addresses, **options)
    if router:
        kernel.route("default", "eth1", via=router)
    return kernel


def test_an_address_that_its_interface_has_is_the_links() -> None:
    known = leases.record(None, event(), "dsl")
    seen = leases.check(known, ppp("203.0.113.45 peer 192.0.2.1").facts())
    assert seen.is_up
    assert (text(seen.address), seen.prefixlen, seen.withdrawn, seen.source, seen.reason) == (
        "203.0.113.45",
        32,
        False,
        "pppd",
        "ip-up",
    )
    assert leases.check(seen, ppp("203.0.113.45 peer 192.0.2.1").facts()).render() == seen.render()


def test_an_address_that_is_still_there_after_its_ip_down_is_still_the_links() -> None:
    known = leases.record(leases.record(None, event(), "dsl"), event(DOWN), "dsl")
    assert leases.check(known, ppp("203.0.113.45 peer 192.0.2.1").facts()).is_up


def test_an_address_that_is_gone_leaves_the_link_down_and_remembers_it() -> None:
    known = leases.record(None, event(source="dhclient", interface="eth1", gateway="203.0.113.1"), "cable")
    for kernel in (ethernet(), Painted(), ethernet("203.0.113.99/24", up=False)):
        seen = leases.check(known, kernel.facts())
        assert (seen.is_up, seen.address, seen.gateway, seen.prefixlen, text(seen.former)) == (
            False,
            b"",
            b"",
            0,
            "203.0.113.45",
        )
        assert (seen.source, seen.reason, seen.withdrawn) == ("kernel", "address gone", True)
        assert leases.check(seen, kernel.facts()).render() == seen.render()


def test_who_took_the_address_back_stays_named() -> None:
    known = leases.record(leases.record(None, event(), "dsl"), event(DOWN), "dsl")
    seen = leases.check(known, Painted().facts())
    assert (seen.source, seen.reason, seen.is_up) == ("pppd", "ip-down", False)


def test_an_unannounced_change_to_the_only_other_address_is_followed() -> None:
    known = leases.record(None, event(source="dhclient", interface="eth1", gateway="203.0.113.1"), "cable")
    known = leases.check(known, ethernet("203.0.113.45/24").facts())
    seen = leases.check(known, ethernet("203.0.113.99/24").facts())
    assert (text(seen.address), text(seen.former), seen.reason) == ("203.0.113.99", "203.0.113.45", "found")
    assert text(seen.gateway) == "203.0.113.1"  # the same network: the next hop holds
    elsewhere = leases.check(known, ethernet("198.51.100.7/24").facts())
    assert (text(elsewhere.address), elsewhere.gateway) == ("198.51.100.7", b"")  # another network: nobody said


def test_an_unannounced_change_with_two_candidates_is_ambiguous_and_the_link_down() -> None:
    known = leases.record(None, event(source="dhclient", interface="eth1", gateway="203.0.113.1"), "cable")
    seen = leases.check(known, ethernet("203.0.113.98/24", "203.0.113.99/24", router="203.0.113.1").facts())
    assert (seen.is_up, seen.address) == (False, b"")
    kernel = ethernet("203.0.113.98/24", router="203.0.113.1")
    for flags in (SECONDARY, DEPRECATED):
        kernel.address("eth1", f"203.0.113.{100 + flags}/24", flags=flags)
    kernel.address("eth1", "169.254.7.7/16", scope=253)
    kernel.address("eth1", "169.254.7.8/16")
    assert text(leases.check(known, kernel.facts()).address) == "203.0.113.98"


def test_after_it_was_taken_back_only_an_address_with_a_way_out_replaces_it() -> None:
    known = leases.record(None, event(source="dhclient", interface="eth1", gateway="203.0.113.1"), "cable")
    gone = leases.record(known, event(DOWN, source="dhclient", interface="eth1"), "cable")
    assert not leases.check(gone, ethernet("192.168.1.5/24").facts()).is_up  # a management address
    assert leases.check(gone, ethernet("192.168.1.5/24", router="192.168.1.1").facts()).is_up
    assert leases.check(
        gone, ethernet("192.168.1.5/24").facts(), address("192.168.1.1")
    ).is_up  # the configured gateway
    assert not leases.check(gone, ethernet("192.168.1.5/24").facts(), address("10.0.0.1")).is_up
    assert leases.check(gone, ethernet("192.0.2.5 peer 192.0.2.6").facts()).is_up
    tunnel = lease("ppp0", withdrawn=True)
    assert leases.check(tunnel, ppp("203.0.113.45").facts()).is_up


def test_of_several_addresses_the_default_routes_source_is_the_links() -> None:
    kernel = ethernet("203.0.113.5/24", "203.0.113.6/24")
    kernel.route("default", "eth1", via="203.0.113.1", src="203.0.113.6")
    assert text(leases.check(lease("eth1", withdrawn=True), kernel.facts()).address) == "203.0.113.6"


def test_with_an_interface_set_down_the_address_is_still_the_links_for_programs_are_bound_to_it() -> None:
    known = leases.record(None, event(), "dsl")
    assert leases.check(known, ppp("203.0.113.45 peer 192.0.2.1", up=False).facts()).is_up


# F28: the kernel takes all of these on an interface; none may ever be named in a rule.
UNUSABLE = (
    "0.0.0.0/8",
    "0.1.2.3/8",
    "127.0.0.9/8",
    "127.1.2.3/32",
    "224.0.0.5/24",
    "239.1.1.1/32",
    "240.0.0.1/24",
    "255.255.255.255/32",
)


@pytest.mark.fault("F28")
@pytest.mark.parametrize("unusable", UNUSABLE)
def test_an_address_that_can_be_nobodys_is_never_taken_over_from_the_kernel(unusable: str) -> None:
    for make in (ethernet, ppp):
        name = "eth1" if make is ethernet else "ppp0"
        kernel = make()
        kernel.address(name, unusable, scope=0, connected=False)
        kernel.route("default", name)
        unannounced = leases.record(None, event(interface=name), "dsl")
        for known in (unannounced, lease(name, withdrawn=True), lease(name)):
            seen = leases.check(known, kernel.facts())
            assert not seen.is_up, text(seen.address)


@pytest.mark.fault("F28", "F29")
@pytest.mark.parametrize("unusable", UNUSABLE)
def test_an_address_that_can_be_nobodys_is_not_believed_from_a_record_either(unusable: str) -> None:
    known = lease("eth1", "cable", address=unusable.partition("/")[0])
    kernel = ethernet()
    kernel.address("eth1", unusable, scope=0, connected=False)
    assert not leases.check(known, kernel.facts()).is_up


# --- times ---


def test_since_when_a_link_is_up_or_down_and_when_it_was_renumbered() -> None:
    up = leases.stamp(lease(address="203.0.113.45"), None, 100)
    assert (up.since, up.changed) == (100, 0)
    same = leases.stamp(up.copy(), up, 200)
    assert (same.since, same.changed) == (100, 0)
    renumbered = up.copy()
    renumbered.former, renumbered.address = up.address, address("203.0.113.77")
    renumbered = leases.stamp(renumbered, up, 300)
    assert (renumbered.since, renumbered.changed) == (100, 300)
    down = renumbered.copy()
    down.address = b""
    down = leases.stamp(down, renumbered, 400)
    assert (down.since, down.changed) == (400, 300)
    moved = up.copy()
    moved.interface = "ppp7"
    assert leases.stamp(moved, up, 500).since == 500


# --- what was seen to happen ---


def timeline(name: str) -> list[list[str]]:
    return [line.split()[1:] for line in (CAPTURES / name).read_text().splitlines()]


@pytest.mark.parametrize("name", ["timeline-dhclient.txt", "timeline-dhclient-nak-dnsmasq.txt"])
def test_along_the_timelines_of_dhclient_the_link_has_the_address_that_the_kernel_has(name: str) -> None:
    known: Lease | None = None
    steps = 0
    for words in timeline(name):
        if words[0] != "dhclient":
            continue
        reason, interface = words[1:3]
        values = dict(word.split("=") for word in words[3:])
        variables = {
            "reason": reason, "interface": interface, "old_ip_address": values["old"], "new_ip_address": values["new"],
            "new_routers": re.sub(r"\d+$", "1", values["new"]),
        }  # fmt: skip
        told = sources.translate("dhclient", [], variables)
        kernel = Painted()
        kernel.link(interface, *([values["new"] + "/24"] if values["new"] else []))
        if told:
            known = leases.check(leases.record(known, told, "cable"), kernel.facts())
            assert text(known.address) == (values["new"] or "-"), words
            assert text(known.gateway) == (variables["new_routers"] or "-"), words
            steps += 1
    assert steps >= 5


@pytest.mark.fault("F5")
def test_along_the_timeline_of_a_flapping_pppd_lost_and_late_events_do_no_harm() -> None:
    known: Lease | None = None
    live = ""
    steps = 0
    for words in timeline("timeline-ppp-flap.txt"):
        line = " ".join(words)
        if found := re.search(r"is now (10\.\S+);|address (10\.\S+)$", line):
            live = found[1] or found[2]  # what the kernel had, with or without an event
        if words[0] == "START" and words[1] == "ip-up":
            live = words[3]
        if words[0] == "START" and words[1] == "ip-down":
            live = ""
        if words[0] == "END":
            reason, interface, local = words[1:4]
            told = sources.translate("pppd", [reason, interface, "wan1", "0", local, "10.64.1.1", "isp1"], {})
            assert told
            kernel = ppp(*([f"{live} peer 10.64.1.1"] if live else []), name="ppp1")
            known = leases.check(leases.record(known, told, "dsl"), kernel.facts())
            assert text(known.address) == (live or "-"), line
            steps += 1
    assert steps >= 10


@pytest.mark.fault("F5")
def test_the_ip_up_of_an_address_that_has_been_replaced_meanwhile_leads_to_the_live_one() -> None:
    known = leases.record(None, event(address_="10.71.0.11"), "dsl")
    seen = leases.check(known, ppp("10.71.0.12 peer 10.64.1.1").facts())
    assert (text(seen.address), text(seen.former)) == ("10.71.0.12", "10.71.0.11")
    late = leases.check(
        leases.record(seen, event(DOWN, address_="10.71.0.11"), "dsl"), ppp("10.71.0.12 peer 10.64.1.1").facts()
    )
    assert (text(late.address), late.withdrawn) == ("10.71.0.12", False)


def test_the_family_of_a_record_is_in_its_name() -> None:
    leases.store(full())
    assert leases.load("dsl", INET) and leases.load("dsl", 10) is None
