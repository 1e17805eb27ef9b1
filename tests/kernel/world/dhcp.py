"""Real DHCP: dnsmasq or dhcpd for the provider; Debian's dhclient, dhclient.conf and dhclient-script in the box."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .namespaces import Namespace, wait_until

if TYPE_CHECKING:
    from .provider import Provider

SCRIPT = "/sbin/dhclient-script"


class DhcpServer:
    """A server on one wire of a provider; authoritative: it answers NAK to what it did not hand out."""

    def __init__(
        self,
        provider: Provider,
        interface: str,
        lease: str = "12h",
        renew: int | None = None,
        router: str | None = "",
        dns: str = "198.18.0.53",
        options: tuple[str, ...] = (),
    ) -> None:
        """renew: T1 in seconds, dhclient renews after 3/4 to 1 of it. router: None sends none, "" the gateway here.

        lease and options: as each program writes them, see the classes below.
        """
        self.provider = provider
        self.interface = interface
        self.lease, self.renew, self.router, self.dns, self.options = lease, renew, router, dns, options
        self.folder = Path("/tmp/rig") / provider.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[str] | None = None

    def argv(self, first: str, last: str, router: str | None) -> list[str]:
        """The command line that serves this range in the foreground and makes the file `pid` when it is ready."""
        raise NotImplementedError

    def start(self, first: str, last: str) -> None:
        """Serve this range, without any memory of earlier leases."""
        self.pool = (first, last)
        (self.folder / "leases").write_text("")
        (self.folder / "pid").unlink(missing_ok=True)
        self.provider.hand_out(self.interface, [f"{first}-{last}"])
        words = self.argv(first, last, self.provider.gateway if self.router == "" else self.router)
        with (self.folder / "log").open("a") as log:
            process = self.provider.ns.popen(*words, stdout=log, stderr=log)
        self._process = process

        def ready() -> bool:
            assert process.poll() is None, f"{words[0]}: {self.log()}"
            return (self.folder / "pid").exists()

        wait_until(f"{words[0]} to start", ready)

    def stop(self) -> None:
        """End it; what it handed out stays right."""
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """The same pool again, without memory."""
        self.stop()
        self.start(*self.pool)

    def log(self) -> str:
        """What it did: DHCPDISCOVER, DHCPOFFER, DHCPREQUEST, DHCPACK, DHCPNAK, ..."""
        return (self.folder / "log").read_text(errors="replace")


class Dnsmasq(DhcpServer):
    """lease: 2m at least. options: values of --dhcp-option, "option:classless-static-route,192.0.2.0/24,10.9.9.9"."""

    def argv(self, first: str, last: str, router: str | None) -> list[str]:
        """See DhcpServer."""
        words = [
            "/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
            f"--interface={self.interface}", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--no-hosts",
            "--no-resolv", "--log-dhcp", "--log-facility=-", f"--pid-file={self.folder}/pid",
            f"--dhcp-leasefile={self.folder}/leases",
            f"--dhcp-range={first},{last},{self.provider.network.netmask},{self.lease}",
            f"--dhcp-option=option:router{',' + router if router else ''}",
            f"--dhcp-option=option:dns-server,{self.dns}",
        ]
        if self.renew is not None:
            words += [f"--dhcp-option=option:T1,{self.renew}", f"--dhcp-option=option:T2,{self.renew * 2}"]
        return words + [f"--dhcp-option={option}" for option in self.options]


class Dhcpd(DhcpServer):
    """ISC dhcpd, for leases of seconds: lease: seconds. options: lines of dhcpd.conf without the semicolon."""

    def argv(self, first: str, last: str, router: str | None) -> list[str]:
        """See DhcpServer."""
        network = self.provider.network
        lines = [
            "authoritative",
            "ping-check off",
            f"default-lease-time {self.lease}; max-lease-time {self.lease}; min-lease-time {self.lease}",
            f"option domain-name-servers {self.dns}",
        ]
        if router:
            lines.append(f"option routers {router}")
        if self.renew is not None:
            lines.append(f"option dhcp-renewal-time {self.renew}; option dhcp-rebinding-time {self.renew * 2}")
        subnet = f"subnet {network.network_address} netmask {network.netmask} {{ range {first} {last}; }}\n"
        text = ";\n".join([*lines, *self.options]) + ";\n" + subnet
        (self.folder / "dhcpd.conf").write_text(text)
        files = ["-cf", f"{self.folder}/dhcpd.conf", "-lf", f"{self.folder}/leases", "-pf", f"{self.folder}/pid"]
        return ["/usr/sbin/dhcpd", "-4", "-d", *files, self.interface]


class DhcpClient:
    """dhclient on one interface of the box, started as ifupdown does, its files where AppArmor lets it have them."""

    def __init__(self, box: Namespace, interface: str, metric: int | None = None, script: str = SCRIPT) -> None:
        """metric: that of its routes, as ifupdown's `metric` line gives it (IF_METRIC)."""
        self.box, self.interface = box, interface
        self.pidfile = Path(f"/run/dhclient.{interface}.pid")
        self.leases = Path(f"/var/lib/dhcp/dhclient.{interface}.leases")
        self._words = ["-4", "-i", "-sf", script, "-pf", str(self.pidfile), "-lf", str(self.leases)]
        self._metric = metric

    def argv(self, *more: str) -> list[str]:
        """Its command line."""
        words = [*self._words, *more]
        if self._metric is not None:
            words += ["-e", f"IF_METRIC={self._metric}"]
        return ["/sbin/dhclient", *words, self.interface]

    def start(self, wait: float | None = 20) -> str | None:
        """Start it; with wait, until it has a lease and its hooks have run: its address. wait=None: go on at once."""
        process = self.box.popen(*self.argv("-v"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        if wait is None:
            return None
        # It goes into the background when it is bound, after the script; its child keeps no stderr then.
        try:
            _, said = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
            raise AssertionError(f"dhclient {self.interface}: not bound after {wait} s:\n{said}") from None
        assert process.returncode == 0, f"dhclient {self.interface}: exit status {process.returncode}:\n{said}"
        return self.address

    @property
    def address(self) -> str | None:
        """The interface's first address now."""
        return next(iter(self.box.addresses(self.interface)), None)

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        try:
            pid = int(self.pidfile.read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def wait_address(self, other_than: str | None, seconds: float = 30) -> str:
        """Wait for an address that is not this one, and for the hooks of the event that brought it."""
        found = wait_until(
            f"{self.interface} to have an address other than {other_than}",
            lambda: next((a for a in self.box.addresses(self.interface) if a != other_than), None),
            seconds,
        )
        self.wait_script()
        return str(found)

    def wait_script(self) -> None:
        """Wait until no dhclient-script of this client runs."""
        wait_until(f"dhclient-script of {self.interface} to end", lambda: not self._script_runs())

    def _script_runs(self) -> bool:
        for pid in self.box.pids():
            try:
                if SCRIPT.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").split(b" ")[:3]:
                    if f"interface={self.interface}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                        return True
            except OSError:
                continue
        return False

    def restart(self) -> str | None:
        """End it without a word and start it again with its lease on file: PREINIT and REBOOT, or BOUND after a NAK."""
        self.kill()
        return self.start()

    def kill(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal: no hook runs, the address stays (as real dhclient does)."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)
            wait_until("dhclient to end", lambda: self.pid is None)

    def release(self) -> None:
        """dhclient -r: RELEASE, the address goes."""
        self.box.run(*self.argv("-r"))

    def stop(self) -> None:
        """dhclient -x: STOP, the address goes."""
        self.box.run(*self.argv("-x"))


def run_script(box: Namespace, reason: str, interface: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Debian's dhclient-script as dhclient would call it, for reasons that a real server gives only after minutes.

    variables: new_ip_address, new_subnet_mask, new_routers, old_ip_address, ... The script does what it always does
    (sets and flushes addresses, adds the default route) and sources the exit hooks.
    """
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "pid": str(os.getpid()),
        "reason": reason,
        "interface": interface,
        **{name: str(value) for name, value in variables.items()},
    }
    return box.run(SCRIPT, env=env, check=False)
