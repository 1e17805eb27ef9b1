"""multihook flush: take all of ours out of the kernel, and leave it out until `multihook sync`."""

import sys

import click

from multihook import census, engine, record, run
from multihook.command import console
from multihook.config import compiled
from multihook.files import remove, replace
from multihook.paths import HELD, RT_PROTOS, RT_TABLES


@click.command()
@click.option("--once", is_flag=True, help="Without the hold: the next event puts everything back.")
def flush(once: bool) -> None:
    """Take everything of multihook's out of the kernel: rules, routes, interface groups.

    Hooks only record until `multihook sync`.  What others made is left as it is.
    """
    config = compiled.load()
    with console.working() as door:
        certificate = record.certificate()
        run.check_namespace(certificate)
        if not once:
            replace(HELD, b"by multihook flush\n")
        found = census.of_everything(config, door, [])
        found.links = []
        view = found.view(door, certificate)
        record.annul(config)
        made, failures = engine.apply(view, engine.plan(view))
        if not failures:
            record.forget()
        for path in (RT_TABLES, RT_PROTOS):
            remove(path)
        for failure in failures:
            click.echo(failure.line, err=True)
        what = engine.count(made) or "nothing was there"
        hold = "" if once else "; nothing comes back before `multihook sync`"
        line = f"taken out: {what}{hold}"
        record.write_result(record.Result(bool(failures), line))
        console.logger().info(line)
        click.echo(f"{line[0].upper()}{line[1:]}.")
        if failures:
            sys.exit(console.FAILED)
