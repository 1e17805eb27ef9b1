"""multihook check-config: say whether the configuration is right, and if not what is wrong with it."""

import sys

import click
import netifaces

from multihook.checks.links import not_there
from multihook.config import schema, tables, toml
from multihook.journal import foreign

# 78 is EX_CONFIG of sysexits.h.
HIDDEN, WRONG = 1, 78
_TABLES_SHOWN = 12


@click.command("check-config")
@click.argument("file", nargs=-1, type=click.Path())
def check_config(file: tuple[str, ...]) -> None:
    """Check the configuration, or each FILE instead of it, without changing anything.

    Several FILEs are merged in their order, as the files in conf.d are.  Exit status: 0 right,
    78 wrong, 1 you may not read it.
    """
    try:
        document = toml.read(list(file), trusted=False) if file else toml.read(toml.installed())
        config, notes = schema.build(document, tables.others())
    except toml.Refused as refused:
        for problem in refused.problems:
            click.echo(problem.line(), err=True)
        more = refused.count - len(refused.problems)
        if more:
            click.echo(f"and {more} more", err=True)
        sys.exit(HIDDEN if refused.hidden else WRONG)
    tables.number(config, keep=False)
    for note in notes + _missing(config):
        click.echo(f"note: {note}")
    click.echo(summary(config))


def _missing(config: schema.Config) -> list[str]:
    """Notes on interfaces that are not there: none is an error, as the file may be for later or for elsewhere."""
    notes = []
    for name, (interface, near) in not_there(config, netifaces.interfaces()).items():
        guess = f"; did you mean {foreign(near[0])}?" if near else ""
        notes.append(f"link.{name}.interface: there is no interface {interface} here now{guess}")
    return notes[: schema.LIMIT]


def summary(config: schema.Config) -> str:
    """What a right configuration comes to: `2 links; tables 200, 201`."""
    numbers = [str(link["table"]) for link in config["links"].values()]
    if not numbers:
        return "no links; those that others bring up are adopted" if config["adopt"] else "no links, and none adopted"
    shown = ", ".join(numbers[:_TABLES_SHOWN]) + (", ..." if len(numbers) > _TABLES_SHOWN else "")
    several = len(numbers) > 1
    return f"{len(numbers)} link{'s' if several else ''}; table{'s' if several else ''} {shown}"
