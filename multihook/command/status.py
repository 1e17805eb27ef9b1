"""multihook status: each link, and whether the kernel agrees; takes no lock and needs no root."""

import sys
import time
from posix import geteuid
from typing import Any, NoReturn

import click

from multihook import __version__, census, engine, front, leases, links, record, run, spool, survey
from multihook.address import FAMILY_NAMES, INET, is_interface_name, text
from multihook.config import compiled
from multihook.features import snat, sysctls
from multihook.files import explain
from multihook.journal import foreign
from multihook.kernel import nfttable
from multihook.kernel.interfaces import name_of
from multihook.kernel.rtnetlink import Door, Refused
from multihook.kernel.ruleset import TABLE
from multihook.links import Link, Path
from multihook.lock import PATIENCE_SECONDS
from multihook.managers import heard_of, silent_manager, what_it_tells
from multihook.paths import LOCK
from multihook.view import View

# What the JSON promises: fields are added under the same number, never renamed or taken away.
JSON_VERSION = 1

AGREES, DIFFERS, DOWN, WRONG_CONFIGURATION = 0, 1, 3, 78
_WORST = (WRONG_CONFIGURATION, DIFFERS, DOWN, AGREES)
_SHOWN_DIFFERENCES = 6
_GLANCE_SECONDS = 0.02
_PAUSE_SECONDS = 0.5


def _complete_link(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    names = {*compiled.load()["links"], *(link for link, _ in leases.keys())}
    return sorted(name for name in names if name.startswith(incomplete))


@click.command()
@click.argument("link", required=False, shell_complete=_complete_link)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, for programs.")
def status(link: str | None, as_json: bool) -> None:
    """Show each link, or only LINK with the commands to look oneself.

    Exit status: 0 all links are up and the kernel agrees; 1 the kernel differs, or the last run
    failed, or you may not look; 3 as decided, but a configured link is down or held out; 78 the configuration is wrong.
    """
    try:
        report = _settled()
    except Refused as error:
        _end(f"the kernel does not answer: {error.reason}")
    except OSError as error:
        _end(explain(error))
    summary = _summary(report)
    if link is not None:
        report["links"] = [one for one in report["links"] if one["name"] == link]
        if not report["links"]:
            raise click.UsageError(f"there is no link {link}")
    if as_json:
        import json

        click.echo(json.dumps(report, indent=2))
    else:
        _print(report, summary, alone=link is not None)
    sys.exit(report["exit_status"])


def _end(line: str) -> NoReturn:
    click.echo(f"multihook: {line}", err=True)
    sys.exit(DIFFERS)


# --- what there is to say ---


def _settled() -> dict[str, Any]:
    """What there is to say once nobody is at work: what a run is about to make differs for a moment only.

    A difference counts when it is there again with nobody at work in between.  Only root sees who
    holds the lock; for anybody else it counts after a pause.
    """
    report = _report()
    end = time.monotonic() + PATIENCE_SECONDS
    while report["differences"] and time.monotonic() < end:
        if geteuid() != 0:
            time.sleep(_PAUSE_SECONDS)
        while _holder() and time.monotonic() < end:
            time.sleep(_GLANCE_SECONDS)
        before, report = report, _report()
        if report["differences"] == before["differences"] and not _holder():
            break
    return report


def _report() -> dict[str, Any]:
    """All that status knows, in the form of its JSON."""
    config = compiled.load()
    if config.get("hidden"):
        _end(config["error"])
    door = Door()
    found = census.of_everything(config, door, [])
    census.allot_tables(found, door, keep=False)
    held = run.is_held()
    shown = found.shown
    if held or not config["usable"]:
        found.links = []
    view = found.view(door, record.certificate() if geteuid() == 0 else None)
    stopped = snat.stopped(view) if config["snat"] else {}
    differences = engine.commands(view, engine.plan(view)) if config["usable"] else []
    last = record.last_result()
    report = {
        "version": JSON_VERSION,
        "multihook": __version__,
        "configuration": {"error": config["error"], "usable": config["usable"]},
        "held": held,
        "links": [_link(link, found, held, stopped, sysctls.notes(view, link)) for link in shown],
        "snat_compared": nfttable.is_compared(view) if config["snat"] else None,
        "differences": differences,
        "last": last and {"failed": last.failed, "line": last.line, "ago_seconds": record.now() - last.boottime},
        "remarks": _remarks(config, view, found, shown) + (engine.remarks(view) if config["usable"] else []),
    }
    report["exit_status"] = _exit_status(report)
    return report


def _link(
    link: Link, found: survey.Survey, held: bool, stopped: dict[str, tuple[int, int]], more: list[str]
) -> dict[str, Any]:
    known = next(iter(link.paths.values())).lease if link.paths else None
    is_held = held or bool(known and known.held)
    packets, octets = stopped.get(link.interface_name, (0, 0))
    notes = link.notes + link.refused + more + _also_on(link, found)
    if packets and link.snat:
        notes.append(f"{packets} packets ({octets} octets) with a source that is not this link's were stopped")
    return {
        "name": link.name,
        "state": "held" if is_held else "up" if link.is_up else "down",
        "interface": link.interface_name,
        "adopted": link.adopted,
        "alone": link in found.lone,
        "table": link.table or None,
        "snat": link.snat,
        "stopped": {"packets": packets, "octets": octets} if link.snat and geteuid() == 0 else None,
        "families": [_family(path) for path in link.paths.values()],
        "notes": notes,
    }


def _also_on(link: Link, found: survey.Survey) -> list[str]:
    """A note where an interface that is no link has the link's address; survey says it of two links."""
    links_at = {one.interface.index for one in found.shown if one.interface}
    held = [(path.lease.address, path.lease.family) for path in link.paths.values() if path.has_address]
    indices = {index for address, family in held for index in found.facts.holders(address, family)}
    others = ", ".join(sorted(foreign(name_of(index)) for index in indices - links_at))
    return [f"its address is also on {others}; take it away there"] if others else []


def _family(path: Path) -> dict[str, Any]:
    lease = path.lease
    now = record.now()
    return {
        "family": FAMILY_NAMES[lease.family],
        "address": text(lease.address) if lease.address else None,
        "prefixlen": lease.prefixlen if lease.address else None,
        "former_address": text(lease.former) if lease.former else None,
        "next_hop": text(path.gateway) if path.gateway else None,
        "on_segment": not path.onlink,
        "source": lease.source,
        "reason": lease.reason,
        "since_seconds": now - lease.since,
        "changed_seconds": now - lease.changed if lease.changed else None,
    }


def _remarks(config: "run.Config", view: View, found: survey.Survey, shown: list[Link]) -> list[str]:
    """What else an administrator should know at three in the morning."""
    remarks = [front.line(rule) for rule in front.rules_in_front(view)]
    remarks += [front.line_to_segments(rule) for rule in front.rules_to_segments(view)]
    told = heard_of(shown)
    for route in found.facts.defaults(INET):
        name = name_of(route.oif) if route.oif else ""
        manager = silent_manager(route.oif)
        if name and not is_interface_name(name):
            remarks.append(f'"{foreign(name)}" has a default route, but no name that multihook works with')
        elif name and manager and name not in told and not links.is_ignored(config, name):
            remarks.append(f"{name} is managed by {manager}, which tells multihook {what_it_tells(manager)}")
    remarks += _waiting()
    return list(dict.fromkeys(remarks))


def _waiting() -> list[str]:
    """Who holds the lock, and what waits for it; only root can see either."""
    remarks = []
    waiting = len(spool.waiting())
    if waiting:
        events = "events wait" if waiting > 1 else "event waits"
        remarks.append(f"{waiting} {events} to be applied; `multihook sync` does it")
    holder = _holder()
    if holder:
        remarks.append(f"the lock is held by process {holder}")
    return remarks


def _holder() -> int | None:
    """The process that holds the lock, from /proc/locks (proc(5))."""
    import os

    try:
        status = os.stat(LOCK)
        mine = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        with open("/proc/locks", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if words[1] == "FLOCK" and words[5] == mine:
                    return int(words[4])
    except (OSError, IndexError, ValueError):
        return None
    return None


def _exit_status(report: dict[str, Any]) -> int:
    found = {AGREES}
    if report["configuration"]["error"]:
        found.add(WRONG_CONFIGURATION)
    if report["differences"] or (report["last"] and report["last"]["failed"]):
        found.add(DIFFERS)
    if report["held"] or any(one["state"] != "up" and not one["adopted"] for one in report["links"]):
        found.add(DOWN)
    return next(status for status in _WORST if status in found)


# --- how it looks ---


def _print(report: dict[str, Any], summary: str, *, alone: bool) -> None:
    if report["links"]:
        _print_table(report["links"])
        click.echo()
    for one in report["links"]:
        for note in one["notes"]:
            click.echo(f"{one['name']}: {note}.")
    click.echo(summary)  # of the whole machine, as the exit status is
    for remark in report["remarks"]:
        click.echo(f"Note: {remark}.")
    for command in report["differences"][:_SHOWN_DIFFERENCES]:
        click.echo(f"  missing or left over: {engine.brief(command)}")
    if len(report["differences"]) > _SHOWN_DIFFERENCES:
        click.echo(f"  and {len(report['differences']) - _SHOWN_DIFFERENCES} more")
    if report["last"] and report["last"]["failed"]:
        click.echo(f"The last run, {_ago(report['last']['ago_seconds'])}, failed: {report['last']['line']}")
    if report["snat_compared"] is False:
        click.echo(_as_of(report["last"]))
    if report["configuration"]["error"]:
        inforce = "the last good configuration is in force" if report["configuration"]["usable"] else "nothing is done"
        click.echo(f"{report['configuration']['error']}; {inforce}.")
    if alone:
        _print_commands(report["links"][0])


def _as_of(last: dict[str, Any] | None) -> str:
    if not last:
        return "SNAT is not compared; root can compare."
    then = time.time() - last["ago_seconds"]
    day = "" if last["ago_seconds"] < 86400 else time.strftime("%Y-%m-%d ", time.localtime(then))
    return f"SNAT as of the last run, {day}{time.strftime('%H:%M', time.localtime(then))}; root can compare."


def _print_table(shown: list[dict[str, Any]]) -> None:
    rows: list[tuple[str, ...]] = [("LINK", "STATE", "INTERFACE", "ADDRESS", "NEXT HOP", "TABLE", "SNAT", "SINCE", "")]
    rows += [_row(one) for one in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    family = one["families"][0] if one["families"] else {}
    remark = ""
    if one["state"] == "held":
        remark = "held out by hand"
    elif one["alone"]:
        remark = "the only line: nothing is changed for it"
    elif one["state"] == "down" and family.get("source") == "kernel" and family["reason"] == "found":
        remark = "not seen yet"
    elif one["state"] == "down" and family and not family["address"]:
        remark = f"{family['reason']} by {family['source']}" if family["source"] != "kernel" else family["reason"]
    elif family.get("changed_seconds") is not None:
        remark = f"renumbered {_ago(family['changed_seconds'])}"
    return (
        one["name"],
        one["state"],
        one["interface"] or "-",
        family.get("address") or "-",
        family.get("next_hop") or "-",
        str(one["table"] or "-"),
        {False: "-", True: "true"}.get(one["snat"], one["snat"]),
        _duration(family["since_seconds"]) if family else "-",
        remark,
    )


def _summary(report: dict[str, Any]) -> str:
    shown = [one for one in report["links"] if not one["alone"]]
    if report["held"]:
        return "Everything is held out of the kernel by `multihook flush`; `multihook sync` brings it back."
    if not shown:
        return "No link is kept right: two lines, or a [link.*] in the configuration, are needed for that."
    up = sum(one["state"] == "up" for one in shown)
    agrees = "The kernel agrees with all of it."
    if report["differences"]:
        agrees = "The kernel differs (`multihook sync` mends it):"
    return f"{up} of {len(shown)} link{'s are' if len(shown) > 1 else ' is'} up. {agrees}"


def _print_commands(one: dict[str, Any]) -> None:
    click.echo("\nTo look oneself:")
    if one["table"]:
        click.echo(f"  ip rule show | grep -e {one['table']} -e {one['name']}")
        click.echo(f"  ip route show table {one['table']}")
    if one["interface"]:
        click.echo(f"  ip -d address show dev {one['interface']}")
        click.echo(f"  ip route get 198.51.100.1 oif {one['interface']}")
    for family in one["families"]:
        if family["address"]:
            click.echo(f"  ip route get 198.51.100.1 from {family['address']}")
    if one["snat"]:
        click.echo(f"  nft list table inet {TABLE}")


def _duration(seconds: int) -> str:
    """The two largest units: "3 d 4 h", "12 min", "5 s"."""
    seconds = max(seconds, 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def _ago(seconds: int) -> str:
    return f"{_duration(seconds)} ago"
