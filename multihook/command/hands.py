"""multihook up and multihook down: a link taken in or out by hand, for what no hook announces."""

import sys

import click
import netifaces

from multihook import intake, leases, links, run
from multihook.address import INET, is_interface_name, parse, text, why_unusable
from multihook.command import console
from multihook.config import compiled
from multihook.kernel.facts import Facts
from multihook.kernel.rtnetlink import Door
from multihook.sources import CHECK, UP, Event


def _complete_interface(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in netifaces.interfaces() if name.startswith(incomplete) and name != "lo"]


def _interface(_ctx: click.Context, _param: click.Parameter, name: str) -> str:
    if not is_interface_name(name):
        raise click.BadParameter("not an interface name that multihook works with")
    return name


def _gateway(_ctx: click.Context, _param: click.Parameter, value: str | None) -> bytes:
    if value is None:
        return b""
    address = parse(value)
    if address is None or len(address) != 4:
        raise click.BadParameter("not an IPv4 address")
    if why := why_unusable(address):
        raise click.BadParameter(f"{why}: no next hop")
    return address


@click.command()
@click.argument("interface", callback=_interface, shell_complete=_complete_interface)
@click.option("--gateway", metavar="ADDRESS", callback=_gateway, help="Its next hop, where none is known.")
def up(interface: str, gateway: bytes) -> None:
    """Look at INTERFACE now and make it a link, for one that no hook announces.

    It needs an address, and a next hop: one given here, configured, or of main's default route.
    """
    if interface == "lo":
        console.fail("lo is this machine itself and leads to no provider; name the interface of the line")
    with console.working() as door:
        event = Event("command", "up by hand", interface, UP)
        event.address, event.gateway = _address_of(door, interface, gateway)
        _apply(door, event)


@click.command()
@click.argument("interface", callback=_interface, shell_complete=_complete_interface)
def down(interface: str) -> None:
    """Take out the rules and routes of the link on INTERFACE although its address is there.

    They stay out until `multihook up` or the link's next event.
    """
    with console.working() as door:
        _apply(door, Event("command", "down by hand", interface, CHECK))


def _address_of(door: Door, name: str, gateway: bytes) -> tuple[bytes, bytes]:
    """The address by which the link is to be known, and its next hop."""
    facts = Facts(door, {name})
    interface = facts.interfaces.get(name)
    if not interface:
        others = ", ".join(other for other in netifaces.interfaces() if other != "lo") or "none"
        console.fail(f"there is no interface {name}; there are: {others}")
        sys.exit(console.FAILED)
    candidates = [address for address in facts.addresses_of(interface, INET) if address.is_candidate]
    default = facts.default_by(interface, INET)
    if not interface.is_up or not candidates:
        console.fail(f"{name} has no IPv4 address to be known by" if interface.is_up else f"{name} is down")
    near = [address for address in candidates if gateway and facts.is_on_segment(interface, gateway, INET)]
    if default and default.prefsrc:
        near = [address for address in candidates if address.local == default.prefsrc] or near
    learnt = gateway or (default.gateway if default else b"")
    return (near or candidates)[0].local, learnt


def _needs_no_next_hop(door: Door, event: Event) -> bool:
    facts = Facts(door, {event.interface})
    interface = facts.interfaces.get(event.interface)
    if not interface:
        return False
    has_peer = any(address.peer for address in facts.addresses_of(interface, INET))
    return interface.is_point_to_point or has_peer or facts.default_by(interface, INET) is not None


def _apply(door: Door, event: Event) -> None:
    config = compiled.load()
    known = [lease.link for lease in leases.load_all().values() if lease.interface == event.interface]
    name = known[0] if known else links.concerns(config, event)
    if not name or (event.action != UP and not known) or links.is_ignored(config, event.interface):
        what = "ignored by the configuration" if links.is_ignored(config, event.interface) else "no interface of a link"
        console.fail(f"{event.interface} is {what}; `multihook status` shows what is")
    intake.drain(config, door, [])
    before = leases.load(name, event.family)
    if before:
        # A hand names the interface alone: what else is known of the line still holds.
        event.ipparam, event.linkname = before.ipparam, before.linkname
    if before and before.address == event.address:
        event.gateway = event.gateway or before.gateway
        event.server, event.resolvers, event.routes = before.server, before.resolvers, before.routes
    if event.action == UP and name not in config["links"] and not event.gateway and not _needs_no_next_hop(door, event):
        # An office card, perhaps: as a link it would take its neighbours' answers away from them.
        console.fail(f"{event.interface} has no next hop; where it leads to the internet, give --gateway ADDRESS")
    outcome = run.run(config, door, [(name, event)])
    console.logger().info(f"{name}: {event.reason}", interface=event.interface)
    if run.is_held():
        click.echo("Recorded; everything is held out of the kernel until `multihook sync`.")
    for line in outcome.lines:
        click.echo(line)
    for failure in outcome.failures:
        click.echo(f"{failure.link}: {failure.line}" if failure.link else failure.line, err=True)
    lease = outcome.survey.after.get((name, event.family))
    if event.action == UP and lease and not outcome.lines and not run.is_held():
        shown = "is the only line: nothing is changed for it" if outcome.survey.lone else "is in line already"
        click.echo(f"{name}: {text(lease.address)} on {event.interface} {shown}")
    if event.action == UP and not lease:
        console.fail(f"{event.interface} is not adopted: its address is also on another interface, or unusable")
    if outcome.failures:
        sys.exit(console.FAILED)
