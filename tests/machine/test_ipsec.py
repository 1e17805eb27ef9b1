"""IPsec policies of the administrator beside source NAT: what belongs in the tunnel leaves as ESP and not otherwise."""

import pytest

from live import Live
from live.live import assert_works

OFFICE = "10.99.0.10"  # behind the other end of the tunnel
OTHER_END = "198.18.0.50"
KEY = "0x000102030405060708090a0b0c0d0e0f10111213"
pytestmark = pytest.mark.timeout(300)


def test_what_goes_into_a_tunnel_leaves_as_esp_only(live: Live) -> None:
    """A LAN client asks the office and the internet: the first as ESP from the line's address, the second translated."""
    cable = live.provider("cable", "198.51.100.0/24", wire="wan3")
    address = cable.static(7)
    live.box.ip(f"addr add {address}/24 dev wan3", f"route add default via {cable.gateway} dev wan3")
    lan = live.lan()
    tunnel = f"src {address} dst {OTHER_END}"
    live.box.run("ip", "-batch", "-", input="\n".join((
        f"xfrm state add {tunnel} proto esp spi 0x100 reqid 1 mode tunnel aead rfc4106(gcm(aes)) {KEY} 128",
        f"xfrm policy add src 192.168.1.0/24 dst 10.99.0.0/16 dir out tmpl {tunnel} proto esp reqid 1 mode tunnel",
    )) + "\n")  # fmt: skip
    try:
        for snat in ('"auto"', "true", '"masquerade"'):
            live.configure(f'[link.cable]\ninterface = "wan3"\ntable = 203\nsnat = {snat}\n')
            live.multihook("sync", check=True)
            cable.forget()
            for kind in ("udp", "icmp", "tcp"):
                live.ask(lan.ns, OFFICE, kind)  # nobody answers: the other end knows no key
            left = {(entry.destination, entry.protocol, entry.source) for entry in live.seen()}
            assert left == {(OTHER_END, "esp", address)}, (snat, left)
            outcome = live.connect(ns=lan.ns)
            assert (outcome.ok, outcome.source, outcome.by) == (True, address, {"wan3"}), snat
        assert_works(live, "wan3", address)
        assert live.wrong() == []
    finally:
        live.box.run("ip", "xfrm", "policy", "flush")
        live.box.run("ip", "xfrm", "state", "flush")
