"""What features see of links on a painted kernel: a view without a run, made of settings and leases.

Without the fixture `painted_names` the texts of its routes ask this machine's kernel for the names of interfaces.
"""

import tomllib

from painted_kernel import Painted, address

from multihook import engine, leases, links
from multihook.address import INET
from multihook.config import schema, toml
from multihook.leases import Lease
from multihook.survey import Survey
from multihook.view import View


def configuration(settings: str = "", used_names: tuple[str, ...] = ()) -> schema.Config:
    """The configuration that a multihook.toml means, on a machine without foreign tables."""
    names = dict.fromkeys(used_names, "somebody's")
    config, _ = schema.build(toml.Document(tomllib.loads(settings), {}, []), ({}, names, {}, set()), forgive=True)
    return config


def lease(link: str, interface: str, **values: object) -> Lease:
    """What is known about a link; addresses as text, "" for none."""
    made = Lease(link, interface, INET)
    for name, value in values.items():
        if name in ("address", "gateway", "former", "server") and isinstance(value, str):
            value = address(value) if value else b""
        setattr(made, name, value)
    return made


def view_of(
    kernel: Painted, settings: str, *known: Lease, several: bool = True, whole: bool = True, only: str = "",
    former: tuple[str, ...] = (), server: str = "",
) -> View:  # fmt: skip
    """What the feature gets to see of these leases, each checked against the painted kernel.

    With `only` the run is about that link alone, which had the `former` addresses, and this DHCP server.
    """
    config = configuration(settings)
    facts = kernel.facts()
    seen = {one.key: leases.check(one, facts, links.hint_for(config, one.link, one.family)) for one in known}
    before = {}
    if former:
        before[only, INET] = lease(only, "eth1", address=former[0], former=former[-1], server=server)
    survey = Survey(config, facts, before, whole=whole)
    survey.after = {(only, INET): seen[only, INET]} if only else seen
    survey.count = 2 if several else 1
    for name, settings_ in config["links"].items():
        if only in ("", name):
            survey.links.append(links.resolve(name, settings_["table"], config, [seen[name, INET]] if (name, INET) in seen else [], facts))
    return survey.view(kernel.door(), None)


def in_order(view: View) -> list[str]:
    """The commands that would bring the painted kernel in line."""
    return engine.commands(view, engine.plan(view))


def bring_in_line(view: View) -> None:
    """Do it all; nothing is refused, and nothing is left to do."""
    made, failures = engine.apply(view, engine.plan(view))
    assert failures == [], [failure.line for failure in failures]
    assert engine.plan(view) == []
