"""What doctor reads of others: their files, and what nft and the administrator's programs print.

An input is files with the separator between them: a letter that says which, then the content.  Whatever they hold,
doctor shows lines that do nothing to a terminal, and what root is to paste runs nothing else.
"""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multihook import checks, journal, notify
from multihook.checks.machine import Machine
from multihook.config import schema, toml
from multihook.kernel import nft
from multihook.kernel.nft import load
from multihook.kernel.rtnetlink import Refused
from targets.surroundings import SEPARATOR, check_line, patched

FILES = {
    b"i": "/etc/network/interfaces", b"p": "/etc/ppp/peers/dsl-provider", b"o": "/etc/ppp/options",
    b"l": "/etc/ppp/ip-up.local", b"u": "/etc/ppp/ip-up", b"d": "/etc/dhcp/dhclient.conf", b"r": "/etc/rc.local",
    b"n": "/etc/nftables.conf", b"s": "/etc/sysctl.conf", b"k": "/etc/keepalived/keepalived.conf",
    b"e": "/etc/dhcp/dhclient-enter-hooks", b"g": "/etc/glftpd.conf", b"v": "/etc/os-release",
    b"c": "/etc/systemd/network/x.network", b"t": "/proc/self/status", b"w": "/etc/shorewall/providers",
}  # fmt: skip
# Of these the content is the name of a file; what a program prints.
NAME, RULESET, PRINTED, SAID = b"a", b"j", b"x", b"y"
FOLDER = "/etc/ppp/ip-up.d"
CONFIG = {
    "link": {"dsl": {"ipparam": "dsl", "table": 200}, "cable": {"interface": "eth1", "table": 201, "snat": True}},
    "glftpd": {},
}
LONGEST = 2000
# What a shell makes nothing of, outside of quotes.
HARMLESS = re.compile(r"[A-Za-z0-9 ./:_,@%+=~^-]*")
PROGRAMS = ("ip", "nft", "mv", "sed", "chmod", "chown", "rm", "ln", "systemctl", "sysctl", "multihook", "apt-get")

# Checks are loaded when they are needed; here all of them are loaded now, to be instrumented.
ALL = tuple(checks.checks())

_root = Path()
_config: dict[str, object] = {}
_ruleset = [b""]


@contextmanager
def place(folder: Path) -> Iterator[None]:
    """A machine whose files are those of the input, with an nft that prints what stands there."""
    global _root
    _root = folder
    config, _ = schema.build(toml.Document(CONFIG, {}, []), ({}, {}, {}, set()))
    _config.update(config)
    for path in (*FILES.values(), f"{FOLDER}/x", "/usr/sbin/nft"):
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
    (folder / "usr/sbin/nft").touch(0o755)
    with patched((Machine, "run", lambda machine, *argv: _ruleset[0]), (journal, "write", said)):
        yield


def said(priority: int, line: str) -> None:
    """What would go to the log."""
    check_line(line)


def run(data: bytes) -> None:
    """Lay the files, look, take them away again."""
    laid = []
    _ruleset[0] = b'{"nftables": []}'
    try:
        for part in data.split(SEPARATOR):
            which, content = part[:1], part[1:]
            if which in FILES:
                laid.append(_root / FILES[which][1:])
                laid[-1].write_bytes(content)
                laid[-1].chmod(0o755)
            elif which == NAME and (name := re.sub(rb"[/\0]", b"", content)[:200]).strip(b"."):
                laid.append(_root / FOLDER[1:] / name.decode("utf-8", "surrogateescape"))
                laid[-1].touch()
            elif which == RULESET:
                _ruleset[0] = content
            elif which == PRINTED:
                notify._say("dsl: notify.d/x", bytearray(content), 1, is_late=False)
            elif which == SAID:
                check_nft(content)
        look()
    finally:
        for path in laid:
            path.unlink(missing_ok=True)


def look() -> None:
    """Everything that doctor says of it."""
    machine = Machine(_config, None, None, [], root=str(_root))
    for finding in checks.look(machine):
        for line in (finding.what, finding.why):
            check_shown(line)
        for line in finding.mend:
            check_shown(line)
            check_pasted(line)
    for blind in machine.blind:
        check_shown(f"{blind.what}: {blind.why}")
        assert not re.match(r"\w+(Error|Exception): ", blind.why), f"{blind.what}: {blind.why}"


def check_shown(line: str) -> None:
    """One line, of a length that a person reads."""
    assert line.isprintable() and len(line) <= LONGEST, ascii(line)


def check_pasted(line: str) -> None:
    """A command has nothing in it that a shell would act on, quoted words aside."""
    if line.partition(" ")[0] not in PROGRAMS:
        return
    command = line.partition("    # ")[0]
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise AssertionError(f"a command that does not end: {line}") from error
    bare = re.sub(r"'[^']*'", "", command.replace("'\"'\"'", ""))
    assert words and HARMLESS.fullmatch(bare), f"not to be pasted: {line}"


def check_nft(content: bytes) -> None:
    """nft's own words about what it does not take."""
    with patched((nft, "_run", lambda program, text: (content, 1)), (nft, "_PLACES", ("/bin/sh",))):
        try:
            load("")
        except Refused as error:
            check_line(error.reason)
        else:
            raise AssertionError("nft failed, and nobody says so")
