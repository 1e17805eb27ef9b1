"""multihook sync: bring everything in line, or print as pasteable commands what that would change."""

import sys

import click

from multihook import blocks, census, codemaker, engine, intake, record, run
from multihook.command import console
from multihook.config import compiled, toml
from multihook.files import remove, sweep
from multihook.kernel import nfttable
from multihook.kernel.rtnetlink import Door, Refused
from multihook.paths import HELD, LEASES, NEWS, PRIVATE, RT_PROTOS, RT_TABLES, RUN, SPOOL, SYSCTLS, TOLD, VAR

# Where a killed run may have left a half-written file.
_SWEPT = [(folder, "") for folder in (RUN, LEASES, PRIVATE, SPOOL, SYSCTLS, NEWS, TOLD, VAR)]
_SWEPT += [(path.rpartition("/")[0], path.rpartition("/")[2]) for path in (RT_PROTOS, RT_TABLES)]


@click.command()
@click.option("--dry-run", "-n", is_flag=True, help="Change nothing; print the commands that would do it.")
def sync(dry_run: bool) -> None:
    """Look at every link and bring everything in line.

    That ends what `multihook flush` began.  Exit status: 0 done, 1 not all of it could be done,
    78 the configuration is wrong (then the last good one is applied).
    """
    config, wrong = _configuration(keep=not dry_run)
    if dry_run:
        _print_difference(config)
        sys.exit(console.WRONG_CONFIGURATION if wrong else 0)
    with console.working() as door:
        run.check_namespace(record.certificate())
        remove(HELD)
        for folder, prefix in _SWEPT:
            sweep(folder, prefix)
        blocks.sweep(config)
        intake.drain(config, door, [])
        outcome = run.run(config, door, [], whole=True)
        for line in outcome.lines:
            click.echo(line)
        for line in outcome.warnings:
            click.echo(f"warning: {line}", err=True)
        for failure in outcome.failures:
            click.echo(f"{failure.link}: {failure.line}" if failure.link else failure.line, err=True)
        if outcome.failures:
            sys.exit(console.FAILED)
        click.echo(_summary(outcome))
        codemaker.renew()
    if wrong:
        sys.exit(console.WRONG_CONFIGURATION)


def _configuration(keep: bool) -> "tuple[run.Config, bool]":
    """The configuration to apply, and whether the files are wrong (then it is the last good one)."""
    try:
        return compiled.compile(keep), False
    except toml.Refused as refused:
        for problem in refused.problems:
            click.echo(problem.line(), err=True)
        if refused.hidden:
            sys.exit(console.FAILED)
        config = compiled.load()
        if not config["usable"]:
            console.fail("there is no last good configuration either; nothing is done", console.WRONG_CONFIGURATION)
        click.echo("the last good configuration stays in force", err=True)
        return config, True


def _print_difference(config: "run.Config") -> None:
    try:
        door = Door()
        found = census.of_everything(config, door, [])
        census.allot_tables(found, door, keep=False)
        view = found.view(door, None)
        for line in engine.commands(view, engine.plan(view)):
            click.echo(line)
        if config["snat"] and not nfttable.is_compared(view):
            click.echo("SNAT is not compared: only root can look into nftables", err=True)
    except Refused as error:
        console.fail(f"the kernel does not answer: {error.reason}")


def _summary(outcome: run.Outcome) -> str:
    found = outcome.survey
    if not found.links:
        lone = f" but {found.lone[0].name}" if found.lone else ""
        return f"No link{lone}: nothing to do, nothing changed." if not outcome.lines else f"No link{lone}."
    names = ", ".join(f"{link.name} ({'adopted, ' if link.adopted else ''}table {link.table})" for link in found.links)
    ending = "." if outcome.lines else "; nothing to change."
    return f"{len(found.links)} link{'s' if len(found.links) > 1 else ''}: {names}{ending}"
