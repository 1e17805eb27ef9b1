"""multihook check-config: what it prints and its exit status."""

import os
from pathlib import Path

import click
import netifaces
import pytest
from click.testing import CliRunner, Result
from config_machine import Machine, make_machine

from multihook.command.check_config import check_config
from multihook.command.doctor import doctor
from multihook.command.status import status
from multihook.command.sync import sync
from multihook.config import toml

HERE = ["lo", "eth0", "eth1", "a", "b", *(f"a{n}" for n in range(13))]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(netifaces, "interfaces", lambda: HERE)
    return make_machine(tmp_path, monkeypatch)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check_config, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", "no links; those that others bring up are adopted"),
        ("[multihook]\nadopt = false", "no links, and none adopted"),
        ('[link.dsl]\ninterface = "eth0"', "1 link; table 1000"),
        ('[link.a]\ninterface = "a"\ntable = 200\n[link.b]\ninterface = "b"\ntable = 201', "2 links; tables 200, 201"),
        (
            "".join(f"[link.a{n}]\ninterface = 'a{n}'\n" for n in range(13)),
            "13 links; tables 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, ...",
        ),
    ],
)
def test_right(machine: Machine, text: str, summary: str) -> None:
    machine.write(text)
    before = machine.snapshot()
    result = run()
    assert (result.output, result.exit_code) == (f"{summary}\n", 0)
    assert machine.snapshot() == before


def test_wrong_says_everything_and_exits_78(machine: Machine) -> None:
    machine.write('[link.dsl]\ninterface = "ppp0"\ntable = 254\nlan = 5\n')
    result = run()
    assert result.exit_code == 78
    assert result.output == (
        f"{machine.settings}: link.dsl.table: 254 is the kernel's table main; choose one of 1..252 or above 255\n"
        f"{machine.settings}: link.dsl.lan: 5 is neither true nor false; write one of these, without quotes\n"
    )


def test_at_most_twenty(machine: Machine) -> None:
    machine.write("".join(f"k{n} = 1\n" for n in range(25)))
    lines = run().output.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 5 more"


def test_notes_come_before_the_summary(machine: Machine) -> None:
    machine.write('[link.a]\ninterface = "ppp0"\n[link.b]\nipparam = "x"\n')
    result = run()
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"note: {machine.settings}: link.a.interface: link b may come up as ppp0 too; ipparam for both settles it",
        "2 links; tables 1000, 1001",
    ]


def test_another_file_instead_of_the_installed_ones(machine: Machine) -> None:
    machine.write("this is no TOML")
    machine.write("nor this", "a.toml")
    one = machine.root / "one.toml"
    one.write_text('[link.a]\ninterface = "a"\n')
    one.chmod(0o666)  # not installed yet: who may write it is no matter
    two = machine.root / "two.toml"
    two.write_text("[link.a]\ntable = 300\n")
    assert run(str(one)).output == "1 link; table 1000\n"
    assert run(str(one), str(two)).output == "1 link; table 300\n"
    assert run(str(two)).exit_code == 78
    missing = machine.root / "missing"
    assert run(str(missing)).output == (
        f"{missing}: cannot be read: No such file or directory; "
        "the name leads to no file; put one there or take the name away\n"
    )
    assert run(str(machine.root)).exit_code == 78


def test_help_names_the_exit_status(machine: Machine) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "78 wrong" in result.output


def test_an_interface_that_is_not_there_is_noted_and_no_error(machine: Machine) -> None:
    text = "".join(f'[link.{name}]\ninterface = "{name}"\n' for name in ("eth0", "eht1", "wwan0", "ppp0"))
    machine.write(text)
    result = run()
    assert result.output.splitlines() == [
        "note: link.eht1.interface: there is no interface eht1 here now; did you mean eth1?",
        "note: link.wwan0.interface: there is no interface wwan0 here now",
        "4 links; tables 1000, 1001, 1002, 1003",
    ]
    assert result.exit_code == 0


# --- what only root may read ---


def not_for_us(monkeypatch: pytest.MonkeyPatch, *, root: bool) -> None:
    """No file of the configuration can be read, by root or by somebody else."""

    def refuse(path: str, trusted: bool) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(toml, "_bytes", refuse)
    monkeypatch.setattr(toml, "geteuid", lambda: 0 if root else os.geteuid() or 1000)


@pytest.mark.parametrize("command", [check_config, status, doctor, sync])
def test_what_may_not_be_read_is_not_called_wrong(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, command: click.Command
) -> None:
    not_for_us(monkeypatch, root=False)
    result = CliRunner().invoke(command, catch_exceptions=False)
    said = f"{machine.settings}: cannot be read: Permission denied; root can read it: try sudo\n"
    assert result.exit_code == 1
    assert result.output.removeprefix("multihook: ") == said


def test_a_folder_that_may_not_be_read_is_not_called_wrong(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml, "geteuid", lambda: os.geteuid() or 1000)
    monkeypatch.setattr(toml, "listing", lambda path, ending: (-13, 0, []))
    result = run()
    assert result.exit_code == 1 and result.output.endswith("root can read it: try sudo\n")


def test_what_root_may_not_read_is_wrong(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    not_for_us(monkeypatch, root=True)
    result = run()
    assert result.exit_code == 78 and "sudo" not in result.output


def test_what_is_wrong_beside_it_is_wrong(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file may not be read, another is no TOML: that is known."""
    machine.write("x", "a.toml")
    machine.write("", "b.toml")
    real = toml._bytes

    def refuse(path: str, trusted: bool) -> bytes:
        if path.endswith("b.toml"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, trusted)

    monkeypatch.setattr(toml, "_bytes", refuse)
    monkeypatch.setattr(toml, "geteuid", lambda: os.geteuid() or 1000)
    assert run().exit_code == 78
