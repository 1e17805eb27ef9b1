"""multihook doctor: what on this machine defeats multihook, why that matters, and what to type."""

import sys
from typing import Any

import click

from multihook import __version__, checks, run
from multihook.checks import machine
from multihook.config import compiled
from multihook.journal import foreign

# What the JSON promises: fields are added under the same number, never renamed or taken away.
JSON_VERSION = 1

NOTHING, FOUND, WRONG_CONFIGURATION = 0, 1, 78
_HEADS = {checks.DEFEATS: "DEFEATS US", checks.WARNING: "WARNING", checks.NOTE: "Note"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, for programs.")
def doctor(as_json: bool) -> None:
    """Look for what on this machine defeats multihook, and say what to do about it.

    Nothing is changed.  Exit status: 0 nothing found (notes aside); 1 something defeats multihook,
    or will, or you may not read the configuration; 78 that is wrong.
    """
    config = compiled.load()
    if config.get("hidden"):
        click.echo(f"multihook: {config['error']}", err=True)
        sys.exit(FOUND)
    report = _report(config)
    if as_json:
        import json

        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    sys.exit(report["exit_status"])


def _report(config: "dict[str, Any]") -> dict[str, Any]:
    """All that doctor knows, in the form of its JSON."""
    here = machine.here(config)
    findings = _configuration(config) + _held() + checks.look(here)
    return {
        "version": JSON_VERSION,
        "multihook": __version__,
        "release": here.release() or None,
        "root": here.is_root,
        "findings": [{**finding._asdict(), "mend": list(finding.mend)} for finding in findings],
        "not_checked": [blind._asdict() for blind in here.blind],
        "exit_status": _exit_status(config, findings),
    }


def _configuration(config: "dict[str, Any]") -> list[checks.Finding]:
    if not config["error"]:
        return []
    why = "The last good one is in force." if config["usable"] else "Nothing is done before it is mended."
    mend = ("multihook check-config", "multihook sync")
    what = f"the configuration is wrong: {foreign(config['error'])}"
    return [checks.Finding(checks.DEFEATS, "configuration", what, why, mend)]


def _held() -> list[checks.Finding]:
    if not run.is_held():
        return []
    what = "`multihook flush` took everything out of the kernel, and it stays out: that was on purpose"
    why = "No link is kept right. Any `multihook sync`, also one that stands below, ends that."
    return [checks.Finding(checks.WARNING, "held", what, why, ("multihook sync    # when it is to come back",))]


def _exit_status(config: "dict[str, Any]", findings: list[checks.Finding]) -> int:
    if config["error"]:
        return WRONG_CONFIGURATION
    return FOUND if any(finding.severity != checks.NOTE for finding in findings) else NOTHING


# --- how it looks ---


def _print(report: dict[str, Any]) -> None:
    for finding in report["findings"]:
        click.echo(f"{_HEADS[finding['severity']]} ({finding['name']}): {finding['what']}.")
        click.echo(f"  {finding['why']}")
        for line in finding["mend"]:
            click.echo(f"    {line}")
        click.echo()
    for blind in report["not_checked"]:
        click.echo(f"Not checked: {blind['what']}: {blind['why']}{'; root can' if blind['root_can'] else ''}.")
    click.echo(_summary(report))


def _summary(report: dict[str, Any]) -> str:
    counts = {
        severity: sum(one["severity"] == severity for one in report["findings"]) for severity in checks.SEVERITIES
    }
    words = []
    if counts[checks.DEFEATS]:
        number = counts[checks.DEFEATS]
        words.append(f"{number} thing{'s defeat' if number > 1 else ' defeats'} multihook here")
    for severity in (checks.WARNING, checks.NOTE):
        if counts[severity]:
            words.append(f"{counts[severity]} {severity}{'s' if counts[severity] > 1 else ''}")
    said = ", ".join(words) or "Nothing was found"
    blind = len(report["not_checked"])
    if blind:
        said += f"; {blind} thing{'s were' if blind > 1 else ' was'} not checked"
        if any(one["root_can"] for one in report["not_checked"]):
            said += " (root can look at more)"
    return f"{said}."
