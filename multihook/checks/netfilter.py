"""nftables and its unit: what empties our table, offloads our links, or translates addresses before we do."""

import re
from collections.abc import Iterator

from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks.kernel import wants_translation
from multihook.checks.machine import Line, Machine, pasteable
from multihook.checks.numbers import free_mask
from multihook.journal import foreign

_FILE = "/etc/nftables.conf"
_UNITS = "/etc/systemd/system"
_OURS = "multihook"


def _is_enabled(machine: Machine, unit: str, target: str) -> bool:
    return machine.exists(f"{_UNITS}/{target}.wants/{unit}") and not machine.is_link_to(f"{_UNITS}/{unit}", "/dev/null")


def _flushes(machine: Machine) -> Line | None:
    """The line of nftables.conf, or of a file that it includes, that empties everything."""
    for line in machine.lines(_FILE):
        if re.match(r"\s*flush\s+ruleset\b", line.text):
            return line
        match = re.match(r'\s*include\s+"([^"]+)"', line.text)
        if match and match[1].startswith("/"):
            folder, _, pattern = match[1].rpartition("/")
            for name in machine.names(folder):
                if re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name):
                    for inner in machine.lines(f"{folder}/{name}"):
                        if re.match(r"\s*flush\s+ruleset\b", inner.text):
                            return inner
    return None


def unit(machine: Machine) -> Iterator[Finding]:
    """Our unit off: nothing at boot, and nothing when nftables.service has emptied everything."""
    if not machine.exists("/run/systemd/system"):
        why = "systemd does not run here; have `multihook sync` run then"
        machine.not_checked("what happens at boot", why)
        return
    if not any(machine.exists(f"{folder}/systemd/system/multihook.service") for folder in ("/usr/lib", "/lib")):
        why = "At boot nothing is done before the first event."
        reinstall = ("apt-get install --reinstall multihook",)
        yield Finding(WARNING, "unit", "multihook.service is not there", why, reinstall)
        return
    if _is_enabled(machine, "multihook.service", "multi-user.target"):
        return
    is_masked = machine.is_link_to(f"{_UNITS}/multihook.service", "/dev/null")
    commands = ["systemctl unmask multihook.service"] if is_masked else []
    mend = (*commands, "systemctl enable --now multihook.service")
    state = "masked" if is_masked else "not enabled"
    yield Finding(
        WARNING, "unit", f"multihook.service is {state}", "At boot nothing is done before the first event.", mend
    )
    flush = _flushes(machine)
    if flush and _is_enabled(machine, "nftables.service", "sysinit.target"):
        yield Finding(
            DEFEATS if wants_translation(machine) else WARNING, "flush-ruleset",
            f"{flush.place} says flush ruleset, and multihook.service is {state}",
            "Each start and reload of nftables.service empties multihook's table, and nothing brings it back.", mend,
        )  # fmt: skip


def _of(machine: Machine, kind: str) -> Iterator[dict[str, object]]:
    """All foreign objects of one kind in the ruleset."""
    for one in machine.ruleset():
        found = one.get(kind)
        if isinstance(found, dict) and (found.get("family"), found.get("table")) != ("inet", _OURS):
            yield found


def flowtables(machine: Machine) -> Iterator[Finding]:
    """Flows that a flowtable has taken over keep their link, whatever the rules say later."""
    ours = {link.interface_name: link.name for link in machine.links if link.interface_name}
    for table in _of(machine, "flowtable"):
        devices = table.get("dev")
        met = sorted({str(name) for name in (devices if isinstance(devices, list) else [devices])} & ours.keys())
        if met:
            yield Finding(
                WARNING, "flowtable",
                f"flowtable {foreign(str(table.get('name')))} of table {foreign(str(table.get('table')))} "
                f"has the interface of a link: {', '.join(met)}",
                "Its flows stay on their link, with its old address, until they end.",
                (f"# in {_FILE}, take {', '.join(met)} out of: devices = {{ ... }}", "systemctl reload nftables"),
            )  # fmt: skip


def _words(expression: object, word: str) -> Iterator[object]:
    """Every value of this key, however deep."""
    stack = [expression]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            if word in one:
                yield one[word]
            stack += one.values()
        elif isinstance(one, list):
            stack += one


def translators(machine: Machine) -> Iterator[Finding]:
    """Rules of others that translate sources: the first one that fits decides, and theirs do not follow an address."""
    if not wants_translation(machine):
        return
    nat = {
        (chain.get("family"), chain.get("table"), chain.get("name"))
        for chain in _of(machine, "chain")
        if chain.get("type") == "nat" and chain.get("hook") == "postrouting"
    }
    for rule in _of(machine, "rule"):
        where = (rule.get("family"), rule.get("table"), rule.get("chain"))
        expression = rule.get("expr")
        # iptables-nft: nft names its targets only.
        targets = {one.get("name") for one in _words(expression, "xt") if isinstance(one, dict)}
        if where not in nat:
            continue
        if "SNAT" in targets or any(True for _ in _words(expression, "snat")):
            yield _translator(where, "sets a fixed source address", WARNING, rule)
        elif "MASQUERADE" in targets or any(True for _ in _words(expression, "masquerade")):
            yield _translator(where, "masquerades", NOTE, rule)
    legacy = "/proc/net/ip_tables_names"
    if machine.exists(legacy) and "nat" in (machine.text(legacy) or "").split():
        machine.not_checked("rules of iptables-legacy", "its table nat is in use; look at `iptables-legacy -t nat -S`")


def _translator(where: tuple[object, ...], what: str, severity: str, rule: dict[str, object]) -> Finding:
    family, table, chain = (foreign(str(word)) for word in where)
    handle = rule.get("handle")
    return Finding(
        severity, "foreign-nat", f"a rule of table {family} {table}, chain {chain}, {what}",
        "Where it fits first, multihook's translation does not, and a renumbered link keeps its old address there.",
        (pasteable(f"nft -a list chain {family} {table} {chain}"),
         pasteable(f"nft delete rule {family} {table} {chain} handle {handle}"),
         "# and take it out of the file that it comes from"),
    )  # fmt: skip


def _is_mark(mangle: dict[str, object]) -> bool:
    keys = (*_words(mangle, "meta"), *_words(mangle, "ct"))
    return any(isinstance(key, dict) and key.get("key") == "mark" for key in keys)


def marks(machine: Machine) -> Iterator[Finding]:
    """Rules of others that write mark bits of ours."""
    mask = machine.config["mark_mask"]
    met: dict[tuple[str, str], int] = {}
    for rule in _of(machine, "rule"):
        for mangle in _words(rule.get("expr"), "mangle"):
            if not isinstance(mangle, dict) or not _is_mark(mangle):
                continue
            value = mangle.get("value")
            if isinstance(value, int) and value & mask:
                met.setdefault((str(rule.get("family")), str(rule.get("table"))), value)
    for (family, table), value in met.items():
        yield Finding(
            NOTE, "marks",
            f"table {foreign(family)} {foreign(table)} sets the mark {value:#x}, with bits of ours ({mask:#010x})",
            "Once multihook marks connections (steering), the two overwrite each other.",
            ("# in /etc/multihook/multihook.toml under [multihook], bits that nobody uses:",
             f"mark_mask = {free_mask(value):#010x}"),
        )  # fmt: skip


CHECKS = (unit, flowtables, translators, marks)
