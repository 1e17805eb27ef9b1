"""The recorder that the long tests judge by (world/wire.py) tells right from wrong; no multihook in this file."""

from collections.abc import Iterator

import pytest

from world import World
from world.wire import Wire

ONE, OTHER = "198.51.100.100", "198.51.100.101"
LINES = ("wan1", "wan3")


@pytest.fixture(params=["wires", "switch"])
def wire(world: World, request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Two lines, to two providers or on one segment; the default route is the first one's, and there are no rules."""
    provider = world.provider("cable", "198.51.100.0/24")
    if request.param == "switch":
        provider.switch(*LINES)
    else:
        provider.wire("wan1")
        world.provider("other", "198.51.100.0/24", wire="wan3")
    world.box.ip(
        f"addr add {ONE}/24 dev wan1",
        f"addr add {OTHER}/24 dev wan3",
        "route add default via 198.51.100.1 dev wan1",
        "route add default via 198.51.100.1 dev wan3 table 203",
    )
    made = Wire(world, LINES)
    yield made
    made.close()


def wrong(wire: Wire) -> set[tuple[str, str, str]]:
    """(source, line, address that the socket is bound to) of what is named."""
    return {(words[2], words[4], words[10]) for words in map(str.split, wire.wrong())}


def lead(world: World) -> None:
    """The second address by its own line."""
    world.box.ip(f"rule add from {OTHER} lookup 203 priority 500")


def test_a_source_by_the_line_of_another_is_named(world: World, wire: Wire) -> None:
    """From the moment of the promise on, and not what left before it."""
    with pytest.raises(AssertionError, match="leave by wan1"):
        wire.let_send(0.2)
    assert wire.wrong() == [] and wire.seen() == 0
    wire.promise(True)
    with pytest.raises(AssertionError, match="leave by wan3"):
        wire.let_send(0.2)
    assert wrong(wire) == {(OTHER, "wan1", OTHER)} and f"when it had ['{ONE}']" in wire.wrong()[0]
    wire.promise(False)
    assert wrong(wire) == {(OTHER, "wan1", OTHER)}, "what was promised until then is judged"
    lead(world)
    wire.forget()
    wire.promise(True)
    wire.let_send()
    assert wire.wrong() == [] and wire.seen() > 0


def test_a_right_source_by_another_line_than_the_sockets_is_named(world: World, wire: Wire) -> None:
    """Translated: right for the line by which it leaves, and not that of the address it was sent from."""
    lead(world)
    wire.promise(True)
    wire.let_send()
    assert wire.wrong() == []
    world.box.nft(f"table ip nat {{ chain out {{ type nat hook postrouting priority 100; oifname wan1 snat to {ONE}; }}; }}")
    world.box.ip(f"rule del from {OTHER} lookup 203 priority 500")
    with pytest.raises(AssertionError, match="leave by wan3"):
        wire.forget()
        wire.let_send(0.2)
    assert (ONE, "wan1", OTHER) in wrong(wire)
    assert any("when that was the address of ['wan3']" in line for line in wire.wrong())
    # Nobody has been told of that address: by which line it leaves is not promised then.
    wire.forget()
    wire.promise(True, frozenset((OTHER,)))
    with pytest.raises(AssertionError, match="leave by wan3"):
        wire.let_send(0.2)
    assert (ONE, "wan1", OTHER) not in wrong(wire)
