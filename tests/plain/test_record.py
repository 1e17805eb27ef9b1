"""What a run leaves behind: the certificate of a whole run and the last result, believed only when they are whole."""

import os
from pathlib import Path

import pytest

from multihook import record

CONFIG = {"digest": "c0ffee", "rt_proto": 109, "group": 109}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    os.umask(0o022)
    monkeypatch.setattr(record, "APPLIED", str(tmp_path / "applied"))
    monkeypatch.setattr(record, "LAST", str(tmp_path / "last"))
    return tmp_path


def certificate() -> record.Certificate:
    return record.certificate_for(CONFIG, 7, "rules=6,table 200=4")


def test_a_certificate_comes_back_as_it_was_earned(folder: Path) -> None:
    assert record.certificate() is None
    record.certify(certificate())
    found = record.certificate()
    assert found
    for name in record.Certificate.__slots__:
        assert getattr(found, name) == getattr(certificate(), name), name
    assert (folder / "applied").stat().st_mode & 0o7777 == 0o600
    record.forget()
    assert record.certificate() is None
    record.forget()


OTHERS = {**CONFIG, "digest": "feed", "rt_proto": 110, "group": 210}


def test_an_annulled_certificate_keeps_the_numbers_of_what_may_be_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record.certify(certificate())
    for _ in range(2):
        record.annul(OTHERS)
        found = record.certificate()
        assert found and found.is_annulled and found.digest not in (CONFIG["digest"], OTHERS["digest"])
        assert (found.protocol, found.group) == (CONFIG["rt_proto"], CONFIG["group"])
    record.forget()
    record.annul(OTHERS)
    found = record.certificate()
    assert found and found.is_annulled and (found.protocol, found.group) == (110, 210)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    record.certify(certificate())
    monkeypatch.setattr(record, "replace", full)
    record.annul(OTHERS)
    assert record.certificate() is None


def test_a_certificate_names_this_boot_and_this_network_namespace() -> None:
    assert certificate().boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert certificate().namespace == os.stat("/proc/self/ns/net").st_ino


def test_a_certificate_of_nothing_at_all_can_be_read_again() -> None:
    record.certify(record.certificate_for(CONFIG, 0, ""))
    assert record.certificate()


@pytest.mark.fault("F18")
def test_a_certificate_cut_off_at_any_byte_is_none(folder: Path) -> None:
    record.certify(certificate())
    whole = (folder / "applied").read_bytes()
    for length in range(len(whole) - 1):  # the last line's end itself says nothing
        (folder / "applied").write_bytes(whole[:length])
        assert record.certificate() is None, whole[:length]


def test_a_certificate_with_a_line_too_few_or_too_many_is_none(folder: Path) -> None:
    lines = certificate().render().splitlines(keepends=True)
    for number in range(len(lines)):
        for changed in (
            lines[:number] + lines[number + 1 :],
            lines[:number] + lines[number : number + 1] + lines[number:],
        ):
            (folder / "applied").write_text("".join(changed))
            assert record.certificate() is None, changed


@pytest.mark.parametrize(
    "value", ["x", "", "-1", "1.5", "9" * 5000, "\xb2", "1 2", "\xff", "\0"], ids=lambda value: ascii(value[:9])
)
def test_a_certificate_with_a_number_that_is_none_is_none(folder: Path, value: str) -> None:
    lines = certificate().render().split("\n")
    for number, line in enumerate(lines):
        if line.isdigit():
            (folder / "applied").write_bytes(
                "\n".join([*lines[:number], value, *lines[number + 1 :]]).encode("latin-1")
            )
            assert record.certificate() is None, line


@pytest.mark.parametrize("content", [b"", b"\n", b"end", b"\0" * 1000, b"\xff" * 1000, b"\n" * 10, b"x" * 100000])
def test_what_is_no_certificate_is_none_and_never_an_error(folder: Path, content: bytes) -> None:
    (folder / "applied").write_bytes(content)
    assert record.certificate() is None


def test_a_certificate_that_others_could_have_written_is_none(folder: Path) -> None:
    record.certify(certificate())
    (folder / "applied").chmod(0o622)
    assert record.certificate() is None
    (folder / "applied").rename(folder / "elsewhere")
    (folder / "elsewhere").chmod(0o600)
    (folder / "applied").symlink_to("elsewhere")
    assert record.certificate() is None
    (folder / "applied").unlink()
    os.mkfifo(folder / "applied")
    assert record.certificate() is None


@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize(
    "line", ["", "dsl: 203.0.113.45 on ppp0 (pppd ip-up): 2 rules; 7 ms", "é end", "x" * 5000, "end"]
)
def test_a_result_comes_back_as_it_was_written(folder: Path, failed: bool, line: str) -> None:
    record.write_result(record.Result(failed, line, 1700000000, 77))
    found = record.last_result()
    assert found
    assert (found.failed, found.line, found.wall, found.boottime) == (failed, line, 1700000000, 77)
    assert (folder / "last").stat().st_mode & 0o7777 == 0o644


def test_a_result_has_the_time_of_now() -> None:
    before = record.now()
    result = record.Result(False, "x")
    assert before <= result.boottime <= before + 2
    assert result.wall > 1_600_000_000 or result.wall > 0  # a clock before NTP is no error


@pytest.mark.fault("F18")
def test_a_result_cut_off_at_any_byte_is_none(folder: Path) -> None:
    assert record.last_result() is None
    record.write_result(record.Result(True, "dsl: not applied", 1700000000, 77))
    whole = (folder / "last").read_bytes()
    for length in range(len(whole)):
        (folder / "last").write_bytes(whole[:length])
        assert record.last_result() is None, whole[:length]


@pytest.mark.parametrize("content", [
    b"", b"\n\n\n\n\n\n", b"multihook last 2\nok\n1\n2\nx\nend\n", b"multihook last 1\nok\n-1\n2\nx\nend\n",
    b"multihook last 1\nok\n1\nx\nx\nend\n", b"multihook last 1\nok\n1\n2\nx\ny\nend\n", b"\xff" * 100,
    b"multihook last 1\nok\n\xc2\xb2\n2\nx\nend\n", b"multihook last 1\nok\n" + b"9" * 5000 + b"\n2\nx\nend\n",
    b"multihook last 1\nok\n1\n" + b"9" * 5000 + b"\nx\nend\n",
    b"multihook last 1\nok\n1\n2\n" + b"x" * 70000 + b"\nend\n",
], ids=lambda content: repr(content[:40]))  # fmt: skip
def test_what_is_no_result_is_none_and_never_an_error(folder: Path, content: bytes) -> None:
    (folder / "last").write_bytes(content)
    assert record.last_result() is None


def test_a_certificate_or_a_result_with_another_end_is_none(folder: Path) -> None:
    record.write_result(record.Result(True, "x", 1700000000, 77))
    record.certify(certificate())
    for name, read in (("applied", record.certificate), ("last", record.last_result)):
        whole = (folder / name).read_bytes()
        assert read()
        for instead in (b"\nEND\n", b"\n\n", b"\nend\0\n", b"\nend\nx"):
            (folder / name).write_bytes(whole.removesuffix(b"\nend\n") + instead)
            assert read() is None, (name, instead)
