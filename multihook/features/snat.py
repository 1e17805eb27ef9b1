"""SNAT: each link's forwarded and misplaced sources get its address, and none that is wrong gets out.

Sets and maps are keyed by interface; the chains never change with a link:

    postrouting   nat      chooses by the outgoing interface: what is no link meets nothing else
      auto4       snat     private sources, addresses of this machine, sources of other links
      office4     snat     the same, but not from one private network to another (lan = true)
      all4        snat     all that is not local to the interface
      masquerade4 snat     the same, the address chosen by the kernel
    guard         filter   after translation: what still has no right source is counted and dropped

The guard asks the kernel which addresses the interface has at that moment.  So it holds from the
instant an address changes, before any hook runs, and it stays while the link is down: nothing may
leave by what comes up under that name before a hook has seen it.
"""

from multihook.address import INET, in_network, network_text, width
from multihook.kernel import nfttable
from multihook.kernel.nftables import GOTO, Element, ifname, interface_of
from multihook.kernel.ruleset import Chain, Set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from multihook.kind import Object
    from multihook.links import Link
    from multihook.view import View

NAME = "snat"
KINDS = (nfttable.KIND,)

# The link's address; the chain that translates; the one that guards; its `sources`; addresses of it that are on
# another interface as well.  In the last one the guard counts.
ADDRESS, TRANSLATE, GUARDS = "snat4", "translate4", "guard4"
SOURCES, SHARED, STOPPED = "sources4", "shared4", "stopped4"
_SETS = (
    Set(ADDRESS, ("ifname",), "ipv4_addr", noun=NAME),
    Set(TRANSLATE, ("ifname",), "verdict", noun=NAME),
    Set(GUARDS, ("ifname",), "verdict", noun=NAME),
    Set(SOURCES, ("ifname", "ipv4_addr"), options="flags interval;", noun=NAME),
    Set(SHARED, ("ifname", "ipv4_addr"), noun=NAME),
    Set(STOPPED, ("ifname",), options="size 65535; flags dynamic; counter;", counts=True),
)

# By snat and lan: the chain that translates, the chain that guards.
_CHAINS = {
    ("auto", False): (b"auto4", b"guardauto4"),
    ("auto", True): (b"office4", b"guardoffice4"),
    (True, False): (b"all4", b"guardall4"),
    ("masquerade", False): (b"masquerade4", b"guardall4"),
}

# RFC 1918 (private), 6598 (a provider's own NAT), 3927 (link-local).  The networks for documentation and
# benchmarks (RFC 5737, 2544) are not among them: a network that uses those has them for public ones.
_PRIVATE = "{ 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 }"

_POSTROUTING, _ACCEPT, _SRCNAT = 4, 1, 100  # NF_INET_POST_ROUTING, NF_ACCEPT, NF_IP_PRI_NAT_SRC
_HOOKS = {
    "postrouting": ("nat", _POSTROUTING, _SRCNAT, _ACCEPT),
    "guard": ("filter", _POSTROUTING, _SRCNAT + 10, _ACCEPT),
}

_TO_ADDRESS = f"snat ip to oifname map @{ADDRESS}"

# chain: (what the rule does, what it is there for)
_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "right4": (
        ("rt ipsec exists accept", "leaves inside of IPsec"),
        ("fib saddr . oif type local accept", "an address of this interface"),
        (f"oifname . ip saddr @{SOURCES} accept", "sources of this link"),
        (f"oifname . ip saddr @{SHARED} fib saddr type local accept", "on another interface as well"),
        ("ip saddr 0.0.0.0 accept", "asks for an address"),
    ),
    "auto4": (
        ("jump right4", "what is right already"),
        (f"fib saddr type local {_TO_ADDRESS}", "another address of this machine"),
        (f"ip saddr {_PRIVATE} {_TO_ADDRESS}", "private"),
    ),
    "office4": (
        (f"ip saddr {_PRIVATE} ip daddr {_PRIVATE} accept", "from office to office"),
        ("goto auto4", "all else"),
    ),
    "all4": (("jump right4", "what is right already"), (_TO_ADDRESS, "all else")),
    "masquerade4": (("jump right4", "what is right already"), ("masquerade", "all else")),
    "stop4": ((f"update @{STOPPED} {{ oifname }}", "counted"), ("drop", "and dropped")),
    "guardauto4": (
        ("jump right4", "what is right"),
        ("ct direction original ct status snat goto stop4", "translated to an address that went"),
        ("ct direction reply ct status dnat goto stop4", "answers for an address that went"),
        ("fib saddr type local goto stop4", "another address of this machine"),
        (f"ip saddr {_PRIVATE} goto stop4", "private"),
    ),
    "guardoffice4": (
        (f"ip saddr {_PRIVATE} ip daddr {_PRIVATE} accept", "from office to office"),
        ("goto guardauto4", "all else"),
    ),
    "guardall4": (("jump right4", "what is right"), ("goto stop4", "all else")),
    "postrouting": ((f"meta nfproto ipv4 oifname vmap @{TRANSLATE}", "each link its way"),),
    "guard": ((f"meta nfproto ipv4 oifname vmap @{GUARDS}", "each link its way"),),
}


def is_wanted(config: "dict[str, Any]") -> bool:
    """Whether a link translates."""
    return bool(config["snat"])


def desired(view: "View") -> "list[Object]":
    """Each translating link's elements, with the sets they are in; in a run over everything also the chains."""
    links = _by_interface(view)
    if not links and view.whole:
        return []
    elements = [element for name, link in links.items() for element in _elements(view, name, link)]
    chains = _chains(view.config) if view.whole else []
    return [*_SETS, *chains, *elements]


def _by_interface(view: "View") -> "dict[str, Link]":
    """The links that translate, by interface; where two claim one, it is that of the link that has an address."""
    found: dict[str, Link] = {}
    for link in view.links:
        before = found.get(link.interface_name)
        if link.interface_name and (before is None or (link.has_address and not before.has_address)):
            found[link.interface_name] = link
    return {name: link for name, link in found.items() if link.snat and not _is_held(link)}


def _is_held(link: "Link") -> bool:
    return any(path.lease.held for path in link.paths.values())


def _elements(view: "View", name: str, link: "Link") -> list[Element]:
    key = ifname(name)
    translate, guard = _CHAINS[link.snat, link.lan and link.snat == "auto"]
    found = [
        Element(GUARDS, key, value=guard, verdict=GOTO, link=link.name),
        Element(TRANSLATE, key, value=translate, verdict=GOTO, link=link.name),
    ]
    for network, length in disjoint(link.sources):
        host_bits = width(INET) - length
        last = (int.from_bytes(network, "big") | (1 << host_bits) - 1).to_bytes(4, "big")
        found.append(Element(SOURCES, key + network, key + last, link=link.name))
    path = link.paths.get(INET)
    if path and path.has_address and link.snat != "masquerade":
        found.append(Element(ADDRESS, key, value=path.lease.address, link=link.name))
    if link.interface:
        # `fib` asks only for the first interface that has an address; for the others we have to say it.
        for address in view.facts.addresses_of(link.interface, INET):
            if len(view.facts.holders(address.local, INET)) > 1:
                found.append(Element(SHARED, key + address.local, link=link.name))
    return found


def disjoint(sources: "Iterable[tuple[bytes, int]]") -> list[tuple[bytes, int]]:
    """The IPv4 prefixes among these that lie in no other of them: a set of ranges takes no two that overlap."""
    found: list[tuple[bytes, int]] = []
    for network, length in sorted(sources, key=lambda source: source[1]):
        if len(network) == 4 and not any(in_network(network, *wider) for wider in found):
            found.append((network, length))
    return found


def _chains(config: "dict[str, Any]") -> list[Chain]:
    elsewhere = _sources_of_all(config)
    found = []
    for name, rules in _RULES.items():
        lines = list(rules)
        if elsewhere and name == "auto4":
            lines.append((f"ip saddr {elsewhere} {_TO_ADDRESS}", "sources of other links"))
        elif elsewhere and name == "guardauto4":
            lines.append((f"ip saddr {elsewhere} goto stop4", "sources of other links"))
        found.append(Chain(name, lines, _HOOKS.get(name)))
    return found


def _sources_of_all(config: "dict[str, Any]") -> str:
    """The `sources` of all links as an nft set, or ""; its own are accepted before a link's traffic meets it."""
    listed = [source for settings in config["links"].values() for source in disjoint(settings["sources"])]
    return f"{{ {', '.join(network_text(*source) for source in sorted(listed))} }}" if listed else ""


def stopped(view: "View") -> dict[str, tuple[int, int]]:
    """(packets, octets) that the guard has stopped, by interface; {} for a user who is not root."""
    return {interface_of(key): counted for key, counted in nfttable.counters(view, STOPPED).items()}
