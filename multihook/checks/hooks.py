"""Whether the programs that bring links up can reach our hooks at all."""

import re
from collections.abc import Iterator

from multihook.checks import DEFEATS, NOTE, WARNING, Finding
from multihook.checks.machine import Machine, quoted

_EVENT = "/usr/lib/multihook/event"

# The program that runs or sources hooks; its entry points of ours; whether they are run (and so must be executable).
_ENTRIES = (
    ("/usr/sbin/pppd", "pppd", ("/etc/ppp/ip-up.d/multihook", "/etc/ppp/ip-down.d/multihook"), True),
    ("/usr/sbin/dhclient", "dhclient", ("/etc/dhcp/dhclient-exit-hooks.d/multihook",), False),
    ("/usr/sbin/dhcpcd", "dhcpcd", ("/usr/lib/dhcpcd/dhcpcd-hooks/90-multihook",), False),
    ("/usr/sbin/ifup", "ifup", ("/etc/network/if-up.d/multihook", "/etc/network/if-post-down.d/multihook"), True),
)  # fmt: skip
_REINSTALL = "apt-get install --reinstall -o Dpkg::Options::=--force-confmiss multihook"
_RUN_PARTS_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_NOTIFY = "/etc/multihook/notify.d"


def overridden(machine: Machine) -> Iterator[Finding]:
    """ip-up.local and its kin: Debian's /etc/ppp/ip-up execs it in place of all of ip-up.d."""
    for name in ("ip-up", "ip-down", "ipv6-up", "ipv6-down"):
        local = f"/etc/ppp/{name}.local"
        if not machine.is_executable(local) or f"{name}.local" not in (machine.text(f"/etc/ppp/{name}") or ""):
            continue
        if any("run-parts" in line.text and f"{name}.d" in line.text for line in machine.lines(local)):
            continue
        yield Finding(
            NOTE if name.startswith("ipv6") else DEFEATS, "ip-up.local",
            f"{local} is there: Debian's /etc/ppp/{name} runs it and nothing in {name}.d",
            "multihook hears nothing of PPP lines.",
            (f"mv {local} /etc/ppp/{name}.d/0local    # it gets the same arguments there",),
        )  # fmt: skip


def entry_points(machine: Machine) -> Iterator[Finding]:
    """Our hooks taken away, or not executable."""
    if not machine.is_executable(_EVENT):
        why = "All hooks of multihook run it; without it they do nothing."
        yield Finding(DEFEATS, "hook-missing", f"{_EVENT} is not there, or not executable", why, (_REINSTALL,))
    for program, name, paths, is_run in _ENTRIES:
        if not (machine.is_executable(program) or machine.is_executable(program.removeprefix("/usr"))):
            continue
        for path in paths:
            why = f"multihook hears nothing, or not all, of what {name} does."
            if not machine.exists(path):
                yield Finding(DEFEATS, "hook-missing", f"{path} is not there", why, (_REINSTALL,))
            elif is_run and not machine.is_executable(path):
                yield Finding(DEFEATS, "hook-not-run", f"{path} is not executable", why, (f"chmod 755 {path}",))


def names_passed_over(machine: Machine) -> Iterator[Finding]:
    """run-parts(8) runs no name with a dot in it: ours copied as multihook.sh, or an own hook."""
    for folder in ("/etc/ppp/ip-up.d", "/etc/ppp/ip-down.d", "/etc/network/if-up.d", "/etc/dhcp/dhclient-exit-hooks.d"):
        for name in machine.names(folder):
            # What dpkg, ucf and editors leave behind is meant to be passed over.
            if _RUN_PARTS_NAME.fullmatch(name) or name.startswith(".") or re.search(r"\.(dpkg|ucf)-|~$|\.bak$", name):
                continue
            new = re.sub(r"[^a-zA-Z0-9_-]", "-", name.removesuffix(".sh"))
            yield Finding(
                NOTE, "hook-name", f"{quoted(f'{folder}/{name}')} is never run",
                "run-parts passes over names with anything but letters, digits, - and _ in them.",
                (f"mv -- {quoted(f'{folder}/{name}')} {folder}/{new}    # if it should run",),
            )  # fmt: skip


def exits(machine: Machine) -> Iterator[Finding]:
    """A hook of dhclient that ends with exit ends the client's script, and all hooks behind it."""
    before = ["/etc/dhcp/dhclient-enter-hooks", "/etc/dhcp/dhclient-exit-hooks"]
    for kind in ("enter", "exit"):
        folder = f"/etc/dhcp/dhclient-{kind}-hooks.d"
        names = [name for name in machine.names(folder) if _RUN_PARTS_NAME.fullmatch(name)]
        before += [f"{folder}/{name}" for name in names if kind == "enter" or name < "multihook"]
    for path in before:
        if not machine.exists(path):
            continue
        for line in machine.lines(path):
            if re.match(r"exit\b", line.text):
                yield Finding(
                    DEFEATS, "hook-exit", f"{line.place} says exit",
                    "dhclient-script sources its hooks: that ends it, and multihook's is not reached.",
                    ("# put the body in brackets, which makes it a shell of its own:", "( ... )"),
                )  # fmt: skip
                break


def other_script(machine: Machine) -> Iterator[Finding]:
    """dhclient told to use another script than Debian's."""
    for line in machine.lines("/etc/dhcp/dhclient.conf"):
        match = re.match(r'\s*script\s+"([^"]*)"', line.text)
        if match and match[1] not in ("/sbin/dhclient-script", "/usr/sbin/dhclient-script"):
            yield Finding(
                WARNING, "hook-not-run", f"{line.place} names another script than Debian's: {quoted(match[1])}",
                "Only Debian's dhclient-script runs the hooks in /etc/dhcp.",
                (f"sed -i {line.number}d /etc/dhcp/dhclient.conf    # the default is /sbin/dhclient-script",),
            )  # fmt: skip


def notify(machine: Machine) -> Iterator[Finding]:
    """The administrator's own executables that are none, or could be changed by others."""
    for name in machine.names(_NOTIFY):
        path = f"{_NOTIFY}/{name}"
        owner, mode = machine.owner_and_mode(path)
        if name.startswith("."):
            continue
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            why = "As run-parts(8) does, only names of letters, digits, - and _ are run."
            plain = re.sub(r"[^A-Za-z0-9_-]", "-", name)
            yield Finding(
                NOTE, "notify", f"{quoted(path)} is not run", why, (f"mv -- {quoted(path)} {_NOTIFY}/{plain}",)
            )
        elif machine.leads_nowhere(path):
            why = "It is not run when a link changes."
            what = f"{quoted(path)} is a symbolic link that leads nowhere"
            yield Finding(NOTE, "notify", what, why, (f"rm -- {quoted(path)}    # or make what it names",))
        elif not machine.is_plain(path):
            why = "Only a plain file can be run when a link changes."
            what = f"{quoted(path)} is no plain file"
            yield Finding(NOTE, "notify", what, why, (f"# move {quoted(path)} elsewhere",))
        elif not machine.is_executable(path):
            why = "It is not run when a link changes."
            yield Finding(NOTE, "notify", f"{quoted(path)} is not executable", why, (f"chmod 755 {quoted(path)}",))
        elif owner or mode & 0o022:
            why = "It would run as root: it is refused."
            mend = (f"chown root {quoted(path)}", f"chmod go-w {quoted(path)}")
            yield Finding(WARNING, "notify", f"{quoted(path)} can be written by others than root", why, mend)


CHECKS = (overridden, entry_points, names_passed_over, exits, other_script, notify)
