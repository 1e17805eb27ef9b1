"""A provider: one namespace that forwards between its customers and the internet, and judges every source address."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .dhcp import DhcpServer, Dnsmasq

if TYPE_CHECKING:
    from .world import World

# Judged in prerouting, before anything else can change the packet. The sets are keyed by the customer's interface:
# two lines of one provider are two customers.
_RULES = """
table inet judge {
    set handed_out { typeof iifname . ip saddr; flags interval; }
    set cut { type ifname; }
    set good { typeof iifname . ip saddr . ip daddr . meta l4proto; flags dynamic; counter; size 65535; }
    set wrong { typeof iifname . ip saddr . ip daddr . meta l4proto; flags dynamic; counter; size 65535; }
    chain from_customer {
        type filter hook prerouting priority raw; policy accept;
        iifname { "uplink", "lo" } accept
        iifname @cut drop
        meta nfproto != ipv4 accept
        # Talk with the DHCP server, and the server's own broadcasts, which come back here: nothing that is forwarded.
        udp dport 67 accept
        ip daddr 255.255.255.255 accept
        iifname . ip saddr @handed_out update @good { iifname . ip saddr . ip daddr . meta l4proto } accept
        update @wrong { iifname . ip saddr . ip daddr . meta l4proto } drop
    }
    chain to_customer {
        type filter hook postrouting priority 200; policy accept;
        oifname @cut drop
    }
}
"""
_TRANSLATE = """
table ip modem {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "uplink" masquerade
    }
}
"""
# Which MAC each address was given in any ARP packet that came through the switch.
_LISTEN = """
table bridge switch {
    set spoken { typeof iifname . arp saddr ether . arp saddr ip; flags dynamic; counter; size 65535; }
    chain ports {
        type filter hook prerouting priority 0; policy accept;
        ether type arp update @spoken { iifname . arp saddr ether . arp saddr ip }
    }
}
"""
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}


@dataclass(frozen=True)
class Seen:
    """Packets of one kind that came from a customer."""

    interface: str  # by which line: wan1, ppp0, ...
    source: str
    destination: str
    protocol: str  # tcp, udp, icmp, or a number
    good: bool  # False: not handed out to this line, and dropped
    packets: int


class Provider:
    """Made by World.provider(). Interfaces are called as in the box (wan1, ppp0); `uplink` is the internet."""

    def __init__(self, world: World, name: str, network: str, nat: bool, gateway: str | None = None) -> None:
        """network: what the internet routes to this provider. nat: a modem that translates its customers' sources."""
        self.world = world
        self.name = name
        self.network = ipaddress.ip_network(network)
        self.nat = nat
        self.ns = world.namespace(f"isp-{name}")
        self.dhcp: DhcpServer | None = None
        self.gateway = gateway or str(self.network[1])
        self.interface: str | None = None
        self._up, self._inet_up = world.internet.attach(self.ns)
        self.ns.nft(_RULES + (_TRANSLATE if nat else ""))
        if not nat:
            world.internet.route(str(self.network), self._up)

    # -- lines --

    def wire(self, interface: str) -> None:
        """A veth from here to the box, both ends called `interface` and up; the gateway address stands on it."""
        self.interface = interface
        self.ns.ip(
            f"link add {interface} type veth peer name {interface} netns {self.world.box.name}",
            f"addr add {self.gateway}/{self.network.prefixlen} dev {interface}",
            f"link set {interface} up",
        )
        self.world.box.ip(f"link set {interface} up")

    def switch(self, *interfaces: str) -> None:
        """Several cards of the box on one segment, all up; for everything else here its name is `switch`."""
        self.interface = "switch"
        self.ns.ip(
            "link add switch type bridge",
            f"addr add {self.gateway}/{self.network.prefixlen} dev switch",
            "link set switch up",
        )
        self.ns.nft(_LISTEN)
        for interface in interfaces:
            self.ns.ip(
                f"link add {interface} type veth peer name {interface} netns {self.world.box.name}",
                f"link set {interface} master switch up",
            )
            self.world.box.ip(f"link set {interface} up")

    def claims(self) -> set[tuple[str, str]]:
        """(card, address): whose MAC each address was given so far, in questions and answers that came from the box."""
        found = set()
        for entry in self.ns.nft_json("list", "set", "bridge", "switch", "spoken")[0]["set"].get("elem", []):
            port, mac, address = entry["elem"]["val"]["concat"]
            card = self.world.box.interface(port)
            if address != "0.0.0.0":
                found.add((port if card and card["address"] == mac else mac, address))
        return found

    def static(self, host: int | str, *more: int | str) -> str:
        """Hand out addresses for ever: a number is the place in the network. Not put on the box. Returns the first."""
        assert self.interface, f"provider {self.name} has no wire"
        addresses = [str(self.network[h]) if isinstance(h, int) else h for h in (host, *more)]
        self.hand_out(self.interface, addresses)
        return addresses[0]

    def delegate(self, prefix: str, via: str) -> None:
        """Route a further range to the customer with the address `via`, and accept it as a source from that line."""
        assert self.interface, f"provider {self.name} has no wire"
        self.ns.ip(f"route replace {prefix} via {via} dev {self.interface}")
        self.hand_out(self.interface, [prefix])

    def serve_dhcp(
        self, first: int = 100, last: int = 150, program: type[DhcpServer] = Dnsmasq, **settings: Any
    ) -> DhcpServer:
        """Start a DHCP server on the wire, its pool these places in the network; settings as for DhcpServer.

        program=world.dhcp.Dhcpd for leases of less than two minutes.
        """
        assert self.interface, f"provider {self.name} has no wire"
        self.dhcp = program(self, self.interface, **settings)
        self.dhcp.start(str(self.network[first]), str(self.network[last]))
        return self.dhcp

    def renumber(self, network: str | None = None, first: int = 200, last: int = 250) -> None:
        """Move the DHCP pool, at once and for good: old addresses are dropped from now on, renewals get a NAK.

        Without a network inside the present one; else into that one, which replaces the present one in the internet.
        """
        assert self.interface and self.dhcp, f"provider {self.name} has no DHCP server"
        if network is not None:
            self.network = ipaddress.ip_network(network)
            self.gateway = str(self.network[1])
            # The old gateway address stays: a renewal goes there by unicast, and finds a server that says no.
            self.ns.ip(f"addr add {self.gateway}/{self.network.prefixlen} dev {self.interface}")
            if not self.nat:
                self.world.internet.route(str(self.network), self._up)
        self.take_back(self.interface)
        self.dhcp.stop()
        self.dhcp.start(str(self.network[first]), str(self.network[last]))

    # -- what is whose --

    def hand_out(self, interface: str, addresses: list[str]) -> None:
        """From now on these (addresses, prefixes, or `first-last`) are right sources on that line."""
        elements = ", ".join(f'"{interface}" . {address}' for address in addresses)
        self.ns.nft(f"add element inet judge handed_out {{ {elements} }}")
        others = [one for one in self.world.providers.values() if one is not self]
        shared = any(one.network.overlaps(self.network) for one in others)
        for address in addresses:
            first = address.split("-")[0]
            inside = ipaddress.ip_network(first).subnet_of(self.network)  # type: ignore[arg-type]
            if not self.nat and (shared or not inside):
                self.world.internet.route(first, self._up)

    def take_back(self, interface: str) -> None:
        """Nothing that came from this line is right any more."""
        listed = self.ns.nft_json("list", "set", "inet", "judge", "handed_out")[0]["set"].get("elem", [])
        for element in listed:
            line, value = element["concat"]
            if line == interface:
                self.ns.nft(f'delete element inet judge handed_out {{ "{line}" . {_text(value)} }}')

    # -- faults --

    def cut(self, how: str = "carrier", interface: str | None = None) -> None:
        """carrier: the box sees the cable pulled. silent: all on that line is lost. upstream: only beyond here."""
        interface = interface or self.interface
        if how == "carrier":
            self.ns.ip(f"link set {interface} down")
        elif how == "silent":
            self.ns.nft(f'add element inet judge cut {{ "{interface}" }}')
        elif how == "upstream":
            self.ns.ip("link set uplink down")
        else:
            raise ValueError(how)

    def mend(self) -> None:
        """Undo every cut."""
        self.ns.nft("flush set inet judge cut")
        if self.interface:
            self.ns.ip(f"link set {self.interface} up")
        self.ns.ip("link set uplink up", f"route replace default via {self._inet_up}")

    # -- what it saw --

    def seen(self, far: str | None = None) -> list[Seen]:
        """What came from customers since the start; far: only what went to this address."""
        found = []
        listed = [entry["set"] for entry in self.ns.nft_json("list", "table", "inet", "judge") if "set" in entry]
        for judged in listed:
            if judged["name"] not in ("good", "wrong"):
                continue
            for entry in judged.get("elem", []):
                element = entry["elem"]
                line, source, destination, protocol = element["val"]["concat"]
                if far in (None, destination):
                    packets = element["counter"]["packets"]
                    protocol = PROTOCOLS.get(protocol, str(protocol))
                    found.append(Seen(line, source, destination, protocol, judged["name"] == "good", packets))
        return found

    def forget(self) -> None:
        """Count from zero."""
        self.ns.nft("flush set inet judge good; flush set inet judge wrong")


def _text(value: object) -> str:
    """An address, prefix or range in nft's JSON as nft's text."""
    if isinstance(value, dict):
        if "prefix" in value:
            return f"{value['prefix']['addr']}/{value['prefix']['len']}"
        return "-".join(value["range"])
    return str(value)
