"""A small internet in network namespaces, with the machine under test in the middle of it.

    far hosts (198.18.0.0/16) -- "internet" -- provider "cable" -- wan1 -+
                                          \\--- provider "dsl"  -- ppp0 -+- "box" -- lan0 -- "lan" -- office networks

world.py        World: what a test gets from the fixture of the same name
namespaces.py   one network namespace: run programs, open sockets, set up interfaces in it
provider.py     one provider: forwards, counts, and drops sources that it did not hand out
dhcp.py         dnsmasq and dhclient; Debian's dhclient-script with any reason
dhcpcd.py       dhcpcd; Debian's dhcpcd-run-hooks with any reason
ppp.py          point-to-point sessions, and the events of pppd by Debian's own /etc/ppp/ip-up and ip-down
shuttle.py      the process that carries packets between the two ends of such a session
internet.py     what lies between the providers, with the far hosts
lan.py          the office side of the box
traffic.py      servers, single exchanges and long flows, and which link they took
observe.py      rules, routes, snapshots, what `ip monitor` heard, what was logged
wire.py         senders on every address that never pause, and whether what leaves is right at each moment
machine.py      a further root without the package, for installing, upgrading and removing it
"""

from .world import World

__all__ = ["World"]
