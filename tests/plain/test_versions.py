"""Files of state say which version wrote them: one of a later version is as none, for this one cannot know what it means."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from painted_machine import Machine
from ppp_and_cable import PPP0, both_up
from told import ip_up

from multihook import codetable, departed, edits, leases, news, oldvalues, record, spool
from multihook.address import INET
from multihook.config import compiled
from multihook.kernel import sysctl

EVENT = "00000000000000000001-1"
NEWS = "\n".join(["multihook news 1", *(f"{name}=x" for name in news._NAMES), "end\n"]).encode()

# {kind: (its file below the machine's root, what it may hold or "" for what a run has written, what is read from it)}
KINDS: dict[str, tuple[str, bytes, Callable[[bytes], object]]] = {
    "lease": ("run/multihook/leases/dsl.inet", b"", lambda _: leases.load("dsl", INET)),
    "certificate": ("run/multihook/private/applied", b"", lambda _: record.certificate()),
    "result": ("run/multihook/last", b"", lambda _: record.last_result()),
    "configuration": ("run/multihook/private/compiled", b"", lambda _: compiled._read_cache()),
    "event": (f"run/multihook/private/spool/{EVENT}", b"multihook event 1\0pppd\0" + b"0 0\0end", lambda _: spool.take(EVENT)),
    "news": (f"run/multihook/private/news/dsl.{EVENT}", NEWS, lambda _: news.take(f"dsl.{EVENT}")),
    "told": ("run/multihook/private/told/dsl.inet", b"multihook told 1\nup\nppp0\n203.0.113.45\n\n200\nend\n", lambda _: news._told("dsl", "inet")),
    "connections": ("run/multihook/private/connections", b"multihook connections 1\ndsl 203.0.113.9\nend\n", lambda _: departed.noted()),
    "sysctls": ("run/multihook/private/sysctls/eth1", b"multihook sysctls 1\nindex 2\nrp_filter 1\nend\n", lambda content: parsed(content)),
    "glftpd": ("var/lib/multihook/glftpd", b"multihook glftpd 1\nplace /a\t/b\n", lambda _: edits.noted()[0]),
}


def parsed(content: bytes) -> object:
    """The old values on file, or None."""
    try:
        return oldvalues.parse(content, 2, sysctl.OURS)
    except ValueError:
        return None


@pytest.mark.fault("F18", "F75")
@pytest.mark.parametrize("kind", KINDS)
def test_state_of_a_later_version_is_as_none(machine: Machine, kind: str) -> None:
    both_up(machine)
    compiled.load()
    place, content, read = KINDS[kind]
    path = machine.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or path.read_bytes())
    path.chmod(0o600)
    content = path.read_bytes()
    assert read(content), "this version's own is believed"
    later = re.sub(rb"^(multihook [a-z]+ )\d+", rb"\g<1>9", content)
    assert later != content
    path.write_bytes(later)
    assert not read(later)
    # And whoever comes next makes it right.
    machine.drain(ip_up("ppp0", "203.0.113.45"))
    assert set(PPP0) <= set(machine.ours()[0])


@pytest.mark.fault("F18")
def test_every_kind_of_file_that_says_a_version_is_tried() -> None:
    """A new kind belongs into KINDS; the table of code is tried in test_hot_path.py."""
    package = Path(codetable.__file__).parent
    said = {match for path in package.rglob("*.py") for match in re.findall(r'(?:MAGIC|HEADER) = [bf]?"(multihook [a-z]+) ', path.read_text())}
    tried = {content.decode().partition(" 1")[0] for _, content, _ in KINDS.values() if content}
    assert said - tried == {"multihook lease", "multihook applied", "multihook last", "multihook configuration"}
