"""What brings multihook.service back to work when nftables.service has emptied the ruleset (tried on booted roots)."""

from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
DROP_IN = TOP / "hooks/usr/lib/systemd/system/nftables.service.d/multihook.conf"
UNIT = TOP / "debian/multihook.service"


def settings(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]


@pytest.mark.fault("F40")
def test_a_start_and_a_stop_of_nftables_run_us_again_and_cannot_fail_by_it() -> None:
    """try-restart: what is stopped or masked stays so; --no-block: nftables waits for nobody; -: nor fails by us."""
    words = "-/bin/systemctl --no-block try-restart multihook.service"
    assert settings(DROP_IN) == [f"ExecStartPost={words}", f"ExecStopPost={words}"]


@pytest.mark.fault("F40")
def test_nothing_stops_our_unit_with_nftables() -> None:
    """PartOf= would: the next start of nftables finds it inactive then, and try-restart leaves it so."""
    said = settings(UNIT)
    assert not any(line.startswith(("PartOf=", "BindsTo=", "Requires=", "ConsistsOf=")) for line in said)
    assert "ReloadPropagatedFrom=nftables.service" in said and "RemainAfterExit=yes" in said
    assert any(line.startswith("After=") and "nftables.service" in line for line in said)


def test_the_package_installs_the_drop_in() -> None:
    assert "hooks/usr/lib/systemd usr/lib" in (TOP / "debian/multihook.install").read_text().splitlines()
