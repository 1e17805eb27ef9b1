"""The text of our nft table: sets and maps keyed by interface, and chains that never change with a link.

    postrouting   nat      chooses by the outgoing interface: what is no link meets nothing else
      auto4       snat     private sources, addresses of this machine, sources of other links
      office4     snat     the same, but not from one private network to another (lan = true)
      all4        snat     all that is not local to the interface
      masquerade4 snat     the same, the address chosen by the kernel
    guard         filter   after translation: what still has no right source is counted and dropped

Each rule has a comment that ends in a digest of its own words: who reads the comments alone knows
whether the rules are these.
"""

from zlib import crc32

from multihook.address import network_text
from multihook.features.snat import ADDRESS, GUARDS, SHARED, SOURCES, STOPPED, TABLE, TRANSLATE, disjoint
from multihook.kernel.nftables import Element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from multihook.kernel.nftables import Hook, Outline

_SETS = (
    ("map", ADDRESS, "type ifname : ipv4_addr;"),
    ("map", TRANSLATE, "type ifname : verdict;"),
    ("map", GUARDS, "type ifname : verdict;"),
    ("set", SOURCES, "type ifname . ipv4_addr; flags interval;"),
    ("set", SHARED, "type ifname . ipv4_addr;"),
    ("set", STOPPED, "type ifname; size 65535; flags dynamic; counter;"),
)

# RFC 1918 (private), 6598 (a provider's own NAT), 3927 (link-local).  The networks for documentation and
# benchmarks (RFC 5737, 2544) are not among them: where somebody uses those, they stand for public ones.
_PRIVATE = "{ 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 }"

_POSTROUTING, _ACCEPT, _SRCNAT = 4, 1, 100  # NF_INET_POST_ROUTING, NF_ACCEPT, NF_IP_PRI_NAT_SRC
_HOOKS: "dict[str, Hook]" = {
    "postrouting": ("nat", _POSTROUTING, _SRCNAT, _ACCEPT),
    "guard": ("filter", _POSTROUTING, _SRCNAT + 10, _ACCEPT),
}

_TO_ADDRESS = f"snat ip to oifname map @{ADDRESS}"

# chain: (what the rule does, what it is there for)
_RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "postrouting": ((f"meta nfproto ipv4 oifname vmap @{TRANSLATE}", "each link its way"),),
    "guard": ((f"meta nfproto ipv4 oifname vmap @{GUARDS}", "each link its way"),),
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
    "stop4": ((f"update @{STOPPED} {{ oifname }}", "counted"), ("drop", "and dropped")),
}

def rules(config: "dict[str, Any]") -> list[tuple[str, str, str]]:
    """(chain, rule, its comment) for all rules in their order."""
    found = []
    elsewhere = _sources_of_all(config)
    for chain, listed in _RULES.items():
        lines = list(listed)
        if elsewhere and chain == "auto4":
            lines.append((f"ip saddr {elsewhere} {_TO_ADDRESS}", "sources of other links"))
        elif elsewhere and chain == "guardauto4":
            lines.append((f"ip saddr {elsewhere} goto stop4", "sources of other links"))
        found += [(chain, rule, f"{why} [{crc32(rule.encode()):08x}]") for rule, why in lines]
    return found


def _sources_of_all(config: "dict[str, Any]") -> str:
    """The `sources` of all links as an nft set, or ""; its own are accepted before a link's traffic meets it."""
    listed = [source for settings in config["links"].values() for source in disjoint(settings["sources"])]
    return f"{{ {', '.join(network_text(*source) for source in sorted(listed))} }}" if listed else ""


def outline(config: "dict[str, Any]") -> "Outline":
    """What kernel.nftables reads when the table is as it should be."""
    chains: dict[str, tuple[Hook | None, list[str]]] = {chain: (_HOOKS.get(chain), []) for chain in _RULES}
    for chain, _, comment in rules(config):
        chains[chain][1].append(comment)
    return 0, chains


def text(
    config: "dict[str, Any]", elements: "Iterable[Element]", counters: "dict[str, tuple[int, int]]"
) -> str:
    """All of the table as nft(8) takes it, in one transaction: there is no instant without it."""
    table = f"inet {TABLE}"
    lines = [f"add table {table}", f"delete table {table}", f"add table {table}"]
    lines += [f"add {kind} {table} {name} {{ {declared} }}" for kind, name, declared in _SETS]
    for chain in _RULES:
        hook = _HOOKS.get(chain)
        hung = f" {{ type {hook[0]} hook postrouting priority {hook[2]}; policy accept; }}" if hook else ""
        lines.append(f"add chain {table} {chain}{hung}")
    lines += [f'add rule {table} {chain} {rule} comment "{comment}"' for chain, rule, comment in rules(config)]
    lines += [f"add element {table} {element.text()}" for element in elements]
    for interface, (packets, octets) in sorted(counters.items()):
        counted = f'"{interface}" counter packets {packets} bytes {octets}'
        lines.append(f"add element {table} {STOPPED} {{ {counted} }}")
    return "".join(f"{line}\n" for line in lines)
