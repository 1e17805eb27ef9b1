"""SNAT: the text of our table, its elements as messages, and which of them each kind of link gets."""

import random
from pathlib import Path

import pytest
from painted_kernel import Painted, not_permitted, pack
from painted_view import bring_in_line, in_order, lease, view_of

from multihook import engine
from multihook.features import routing, snat
from multihook.kernel import nftables, nfttable, ruleset
from multihook.kernel.nft import load
from multihook.kernel.nftables import GOTO, Element, ifname
from multihook.kernel.rtnetlink import Refused
from multihook.kind import Step
from multihook.view import View

DSL = '[link.dsl]\ninterface = "ppp0"\ntable = 200\n'
CABLE = '[link.cable]\ninterface = "eth1"\ntable = 201\n'

ELEMENTS = [
    (Element("snat4", ifname("ppp0"), value=pack("203.0.113.45")), 'snat4 { "ppp0" : 203.0.113.45 }'),
    (Element("translate4", ifname("a23456789012345"), value=b"auto4", verdict=GOTO),
     'translate4 { "a23456789012345" : goto auto4 }'),
    (Element("guard4", ifname("ppp0"), value=b"guardall4", verdict=GOTO), 'guard4 { "ppp0" : goto guardall4 }'),
    (Element("guard4", ifname("ppp0"), verdict=1), 'guard4 { "ppp0" : accept }'),
    (Element("guard4", ifname("ppp0"), verdict=0), 'guard4 { "ppp0" : drop }'),
    (Element("sources4", ifname("eth1.7") + pack("192.0.2.32"), ifname("eth1.7") + pack("192.0.2.47")),
     'sources4 { "eth1.7" . 192.0.2.32-192.0.2.47 }'),
    (Element("sources4", ifname("eth1") + pack("192.0.2.1"), ifname("eth1") + pack("192.0.2.1")), 'sources4 { "eth1" . 192.0.2.1 }'),
    (Element("shared4", ifname("eth1") + pack("192.0.2.1")), 'shared4 { "eth1" . 192.0.2.1 }'),
]  # fmt: skip


@pytest.mark.parametrize("element, text", ELEMENTS, ids=[text for _, text in ELEMENTS])
def test_an_element_is_written_in_the_words_of_nft_and_read_back_the_same(element: Element, text: str) -> None:
    sets = {one.name: one for one in snat._SETS}
    assert sets[element.set].shown(element) == text
    assert nftables.decode(element.set, nftables._encode(element)[4:]) == element
    assert element.key in nftables._encode(element)


def test_elements_differ_in_each_part() -> None:
    listed = [element for element, _ in ELEMENTS]
    assert len(set(listed)) == len(listed)
    assert Element("a", ifname("x"), value=b"1") != Element("a", ifname("x"), value=b"1", verdict=0)
    assert Element("a", "x") != "x"


def test_damaged_answers_harm_nobody() -> None:
    """Cut off or scrambled, an answer gives what can be read of it, or a refusal; never a loop."""
    dice = random.Random(7)
    whole = nftables._GENERIC + nftables.attribute(3, b"".join(nftables._encode(element) for element, _ in ELEMENTS))
    for _ in range(2000):
        damaged = bytearray(whole[: dice.randrange(len(whole) + 1)])
        for _ in range(dice.randrange(4)):
            if damaged:
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            for raw in nftables._split([bytes(damaged)]):
                snat._SETS[0].shown(nftables.decode("snat4", raw))
        except Refused:
            pass


def view(kernel: Painted, settings: str = DSL + CABLE, **more: object) -> View:
    known = [
        lease("dsl", "ppp0", source="pppd", address="203.0.113.45"),
        lease("cable", "eth1", source="dhclient", address="198.51.100.7", gateway="198.51.100.1"),
    ]
    return view_of(kernel, settings, *known, **more)  # type: ignore[arg-type]


def two() -> Painted:
    kernel = Painted()
    kernel.link("ppp0", "203.0.113.45 peer 192.0.2.1", ppp=True)
    kernel.link("eth1", "198.51.100.7/24")
    kernel.route("default", "eth1", via="198.51.100.1")
    return kernel


def test_each_link_is_guarded_translated_and_has_its_address() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    assert kernel.nft.shown() == [
        'guard4 { "eth1" : goto guardauto4 }',
        'guard4 { "ppp0" : goto guardauto4 }',
        'snat4 { "eth1" : 198.51.100.7 }',
        'snat4 { "ppp0" : 203.0.113.45 }',
        'translate4 { "eth1" : goto auto4 }',
        'translate4 { "ppp0" : goto auto4 }',
    ]
    # all of it at once, in one transaction
    assert [kind for kind, _ in kernel.changes if kind == -1 or kind >> 8 == 10] == [-1]


MODES = [
    ("", ["guardauto4", "auto4", "198.51.100.7"]),
    ('snat = "auto"\nlan = true', ["guardoffice4", "office4", "198.51.100.7"]),
    ("snat = true", ["guardall4", "all4", "198.51.100.7"]),
    ("snat = true\nlan = true", ["guardall4", "all4", "198.51.100.7"]),
    ('snat = "masquerade"', ["guardall4", "masquerade4"]),
    ("snat = false", []),
]


@pytest.mark.parametrize("settings, expected", MODES, ids=[settings or "default" for settings, _ in MODES])
def test_the_modes(settings: str, expected: list[str]) -> None:
    kernel = two()
    bring_in_line(view(kernel, CABLE + settings))
    found = [line.split(" : ")[1].replace("goto ", "").removesuffix(" }") for line in kernel.nft.shown()]
    assert sorted(found) == sorted(expected)
    assert kernel.nft.there == bool(expected)


def test_sources_become_ranges_and_one_in_another_is_left_out() -> None:
    kernel = two()
    sources = 'sources = ["192.0.2.40/32", "192.0.2.32/28", "192.0.2.0/32", "2001:db8::/64"]\n'
    bring_in_line(view(kernel, CABLE + sources + DSL))
    assert [line for line in kernel.nft.shown() if line.startswith("sources4")] == [
        'sources4 { "eth1" . 192.0.2.0 }',
        'sources4 { "eth1" . 192.0.2.32-192.0.2.47 }',
    ]
    assert [rule for _, rule, _ in kernel.nft.rules if "192.0.2." in rule] == [
        "ip saddr { 192.0.2.0, 192.0.2.32/28 } snat ip to oifname map @snat4",
        "ip saddr { 192.0.2.0, 192.0.2.32/28 } goto stop4",
    ]


def test_an_address_on_two_interfaces_is_named_for_the_link() -> None:
    kernel = two()
    kernel.link("ppp7", "198.51.100.7 peer 10.0.0.1", ppp=True)
    bring_in_line(view(kernel))
    assert 'shared4 { "eth1" . 198.51.100.7 }' in kernel.nft.shown()


def test_a_link_without_its_address_stays_guarded() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    kernel.no_link("ppp0")
    bring_in_line(view(kernel))
    assert [line for line in kernel.nft.shown() if "ppp0" in line] == [
        'guard4 { "ppp0" : goto guardauto4 }',
        'translate4 { "ppp0" : goto auto4 }',
    ]
    assert len(kernel.nft.texts) == 1


def test_a_link_held_down_by_hand_is_left_alone() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    known = lease("cable", "eth1", address="198.51.100.7", held=True)
    bring_in_line(view_of(kernel, CABLE + DSL, known, lease("dsl", "ppp0", address="203.0.113.45")))
    assert [line for line in kernel.nft.shown() if "eth1" in line] == []


def test_of_two_links_that_claim_an_interface_the_one_with_an_address_has_it() -> None:
    kernel = two()
    kernel.link("eth3", "100.64.0.5/24")
    settings = '[link.one]\nipparam = "x"\nsnat = true\n[link.other]\nipparam = "y"\n'
    gone = lease("one", "eth3", withdrawn=True)
    bring_in_line(view_of(kernel, settings, gone, lease("other", "eth3", address="100.64.0.5")))
    assert 'guard4 { "eth3" : goto guardauto4 }' in kernel.nft.shown()


def renumber(kernel: Painted) -> View:
    kernel.no_address("eth1", "198.51.100.7")
    kernel.address("eth1", "198.51.100.8/24")
    known = lease("cable", "eth1", source="dhclient", address="198.51.100.8", gateway="198.51.100.1")
    return view_of(kernel, DSL + CABLE, known, whole=False, only="cable", former=("198.51.100.7",))


@pytest.mark.parametrize("thorough", [True, False], ids=["few links", "many links"])
def test_another_address_is_one_transaction_of_two_messages(thorough: bool) -> None:
    """With few links the run has read all elements already, for the signature; with many it asks for its own."""
    kernel = two()
    bring_in_line(view(kernel))
    seen = renumber(kernel)
    engine.signature(seen, thorough=thorough)
    kernel.changes.clear()
    steps = [step for step in engine.plan(seen) if step.object.kind is nfttable.KIND]
    assert engine.commands(seen, steps) == [
        'nft \'delete element inet multihook snat4 { "eth1" : 198.51.100.7 }; '
        'add element inet multihook snat4 { "eth1" : 198.51.100.8 }\''
    ]
    assert engine.apply(seen, steps)[1] == []
    assert [kind & 0xFF for kind, _ in kernel.changes] == [14, 12]
    assert len(kernel.nft.texts) == 1
    assert 'snat4 { "eth1" : 198.51.100.8 }' in kernel.nft.shown()
    assert [step for step in engine.plan(seen) if step.object.kind is nfttable.KIND] == []


def test_an_events_run_leaves_other_links_alone() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    kernel.nft.sets["snat4"].pop(next(key for key in kernel.nft.sets["snat4"] if b"ppp0" in key))
    seen = renumber(kernel)
    steps = engine.plan(seen)
    assert steps and not [line for line in engine.commands(seen, steps) if "ppp0" in line]


def test_a_refused_transaction_changes_nothing() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    seen = renumber(kernel)
    steps = [step for step in engine.plan(seen) if step.object.kind is nfttable.KIND]
    before = kernel.nft.shown()
    kernel.before = not_permitted
    assert engine.apply(seen, steps)[1]
    assert kernel.nft.shown() == before


# --- the table itself ---


def rules_of(seen: View) -> list[tuple[str, str, str]]:
    """(chain, rule, comment) of all rules in their order."""
    wanted = snat.desired(seen)
    sets = {one.name: one for one in wanted if isinstance(one, ruleset.Set)}
    chains = [one for one in wanted if isinstance(one, ruleset.Chain)]
    return [(chain.name, rule, comment) for chain in chains for rule, comment in chain.lines(sets)]


def test_the_outline_of_the_text_is_what_is_read_back() -> None:
    kernel = two()
    seen = view(kernel, DSL + CABLE + 'sources = ["192.0.2.32/28"]\n')
    bring_in_line(seen)
    wanted = nfttable.KIND.possible(seen, snat.desired(seen))[0]
    assert nfttable._table(seen, "") == [wanted]


def test_each_rule_has_a_comment_of_its_own_that_ends_in_its_digest() -> None:
    seen = view(two())
    rules = rules_of(seen)
    assert len({(chain, comment) for chain, _, comment in rules}) == len(rules)
    assert all(len(comment) <= 127 and comment.isascii() and '"' not in comment for _, _, comment in rules)
    other = rules_of(view(two(), DSL + 'sources = ["192.0.2.32/28"]\n'))
    assert set(rules) < set(other)


def test_what_is_right_is_accepted_before_anything_is_translated_or_stopped() -> None:
    """IPsec first: translated, it would leave in clear."""
    rules = rules_of(view(two()))
    by_chain = {chain: [rule for of, rule, _ in rules if of == chain] for chain, _, _ in rules}
    assert by_chain["right4"][0] == "rt ipsec exists accept"
    assert all(rule.endswith("accept") for rule in by_chain["right4"])
    for chain in ("auto4", "all4", "masquerade4", "guardauto4", "guardall4"):
        assert by_chain[chain][0] == "jump right4"


DAMAGES = {
    "no table": lambda nft: nft.delete(),
    "asleep": lambda nft: setattr(nft, "flags", 1),
    "a rule less": lambda nft: nft.rules.pop(),
    "a rule more": lambda nft: nft.rules.insert(0, ("guard", "accept", "")),
    "another order": lambda nft: nft.rules.reverse(),
    "another rule": lambda nft: nft.rules.append((*nft.rules.pop()[:2], "mine")),
    "a chain more": lambda nft: nft.chains.update(x=b""),
    "unhooked": lambda nft: nft.chains.update(guard=b""),
    "another policy": lambda nft: nft.chains.update(guard=nft._hook("{ type filter hook postrouting priority 110; policy accept; }").replace(b"\0\0\0\1", b"\0\0\0\0")),
    "another priority": lambda nft: nft.chains.update(guard=nft._hook("{ type filter hook postrouting priority -5; policy accept; }")),
}  # fmt: skip


@pytest.mark.fault("F40")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_table_that_is_not_ours_any_more_shows_in_the_signature_and_is_made_anew(damage: str) -> None:
    kernel = two()
    bring_in_line(view(kernel))
    before = kernel.nft.picture(), engine.signature(view(kernel), thorough=False)
    DAMAGES[damage](kernel.nft)
    assert engine.signature(view(kernel), thorough=False) != before[1]
    seen = view(kernel)
    (line,) = in_order(seen)
    assert line.startswith("nft -f - <<'END'\nadd table inet multihook\ndelete table inet multihook\n")
    bring_in_line(seen)
    assert kernel.nft.picture() == before[0]


def test_any_element_changed_shows_in_the_thorough_signature() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    before = engine.signature(view(kernel), thorough=True)
    kernel.nft.sets["snat4"] = dict(reversed(kernel.nft.sets["snat4"].items()))
    assert engine.signature(view(kernel), thorough=True) == before
    key = next(iter(kernel.nft.sets["snat4"]))
    raw = kernel.nft.sets["snat4"][key]
    kernel.nft.sets["snat4"][key] = raw[:-1] + b"\x99"
    assert engine.signature(view(kernel), thorough=True) != before
    del kernel.nft.sets["snat4"][key]
    assert engine.signature(view(kernel), thorough=True) != before


def test_the_counts_of_the_guard_come_along_into_a_new_table() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    kernel.nft._load('add element inet multihook stopped4 { "eth1" counter packets 7 bytes 420 }')
    kernel.nft.rules.pop()
    bring_in_line(view(kernel))
    assert snat.stopped(view(kernel)) == {"eth1": (7, 420)}


def test_without_any_link_with_snat_the_table_goes_as_a_whole() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    kernel.changes.clear()
    seen = view(kernel, CABLE + "snat = false\n" + DSL + "snat = false\n")
    assert in_order(seen) == ["nft delete table inet multihook"]
    bring_in_line(seen)
    assert not kernel.nft.there and len(kernel.changes) == 1


def test_who_may_not_look_sees_no_difference() -> None:
    kernel = two()
    bring_in_line(view(kernel))
    kernel.nft.delete()
    kernel.nft.permitted = False
    seen = view(kernel)
    assert in_order(seen) == [] and not nfttable.is_compared(seen) and snat.stopped(seen) == {}


@pytest.mark.fault("F48")
def test_a_kernel_without_netfilter_has_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = view(two())

    def refused(*_: object) -> object:
        raise OSError(93, "Protocol not supported")

    monkeypatch.setattr(seen.door, "beside", refused)
    assert nfttable.KIND.signature(seen, snat.desired(seen), True) == {} and snat.stopped(seen) == {}
    steps = [step for step in engine.plan(seen) if step.object.kind is nfttable.KIND]
    assert [type(step.new) for step in steps] == [nfttable.Table] and engine.commands(seen, steps)


@pytest.mark.fault("F46")
def test_a_missing_program_stops_snat_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = two()
    seen = view(kernel)
    monkeypatch.setattr("multihook.kernel.nft._PLACES", ("/nowhere/nft",))
    monkeypatch.setattr("multihook.kernel.nft.load", load)
    made, failures = engine.apply(seen, engine.plan(seen))
    (failure,) = failures
    assert not failure.may_pass and failure.line.count("\n") == 0
    assert "nft is not installed: install nftables" in failure.line
    assert {step.object.kind for step in made} == set(routing.KINDS) and len(made) > 8


@pytest.mark.parametrize(
    ("script", "why"),
    [("exit 0", ""), ("cat >&2; exit 1", "nft: add table"), ("exit 3", "nft: exit status 3"),
     ("exec sleep 90", "nft did not end within 0 s"), ("printf '\\377\\033x' >&2; exit 1", "nft: \\xff")],
)  # fmt: skip
def test_what_the_program_says_becomes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("multihook.kernel.nft._PLACES", (str(program),))
    # What ends has all the time that a busy machine takes to start it.
    monkeypatch.setattr("multihook.kernel.nft._PATIENCE_MS", 300 if "sleep" in script else 60_000)
    try:
        load("add table x\nadd table y\n")
        said = ""
    except Refused as error:
        said = error.reason
    assert said.startswith(why) and bool(said) == bool(why) and "\n" not in said


def test_the_step_of_a_link_belongs_to_it() -> None:
    seen = view(two())
    things = nfttable.KIND.possible(seen, snat.desired(seen))
    assert [(thing.noun, thing.link) for thing in things] == [("nft table", "dsl"), ("snat", "dsl"), ("snat", "cable")]
    left = nfttable._elements(seen, "wan9", [Element("snat4", ifname("wan9"), value=pack("192.0.2.1"))])
    assert (left.noun, left.link) == ("snat", "")
    assert nfttable.KIND.commands(seen, Step(left, None)) == [
        'nft \'delete element inet multihook snat4 { "wan9" : 192.0.2.1 }\''
    ]
    assert "nft list table" in nfttable.KIND.clash(left)
