"""glftpd's files: what is written into them, what is kept of what others wrote, and what is never touched."""

import json
import os
import random
import subprocess
from collections.abc import Callable
from errno import EACCES
from pathlib import Path
from typing import Any

import pytest
from painted_kernel import Painted
from painted_view import lease, view_of

from multihook import blocks, edits, engine, features, files, journal
from multihook.address import parse
from multihook.blocks import Block, Frame, Include
from multihook.features import glftpd
from multihook.view import View

ONE, TWO, NEW = "203.0.113.45", "198.51.100.7", "203.0.113.77"
LINKS = "[link.dsl]\ninterface = 'ppp0'\ntable = 200\n[link.cable]\ninterface = 'eth1'\ntable = 201\n"
THEIRS = b"# glFTPd\nsitename_long  The[:space:]Site\n\nshutdown 0\n"
BEGIN = "# multihook: begin; what stands between here and the end is rewritten, see multihook(8)\n"


def block(name: str, address: str) -> str:
    return f"# multihook: link {name}\nactive_addr {address}\npasv_addr {address}\n# multihook: end of {name}\n"


def framed(*blocks: str, lan: str = "10.* 192.168.*") -> bytes:
    return f"{BEGIN}ifip {lan}\nelseip\n{''.join(blocks)}endifip\n# multihook: end\n".encode()


TWO_PAIRS = [(name, parse(address) or b"", name) for name, address in (("cable", TWO), ("dsl", ONE))]
BOTH = framed(block("cable", TWO), block("dsl", ONE))


class Site:
    """A machine with two links and glftpd's files in a folder of their own."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.etc = root / "etc"
        self.etc.mkdir()
        self.config, self.multilink = self.etc / "glftpd.conf", self.etc / "multilink.conf"
        self.config.write_bytes(THEIRS)
        self.notes = root / "var/glftpd"
        monkeypatch.setattr(edits, "GLFTPD", str(self.notes))
        monkeypatch.setattr(edits, "VAR", str(root / "var"))
        monkeypatch.setattr(blocks, "_USUAL", (str(self.config), str(self.multilink)))
        monkeypatch.setattr(journal, "write", lambda priority, line: None)
        monkeypatch.setattr(features, "KEYS", {"glftpd": "glftpd"})
        self.addresses = {"dsl": ONE, "cable": TWO}
        self.lan = '["10.*", "192.168.*"]'
        self.is_configured = True

    @property
    def include(self) -> bytes:
        return b"include " + bytes(self.multilink) + b"\n"

    @property
    def backup(self) -> Path:
        return self.etc / "glftpd.conf.multihook-backup"

    def view(self, only: str = "", links: str = LINKS) -> View:
        kernel = Painted()
        if self.addresses.get("dsl"):
            kernel.link("ppp0", f"{self.addresses['dsl']} peer 192.0.2.1", ppp=True)
        if self.addresses.get("cable"):
            kernel.link("eth1", f"{self.addresses['cable']}/24")
        places = f"config = {json.dumps(str(self.config))}\nmultilink = {json.dumps(str(self.multilink))}\n"
        section = f"[glftpd]\n{places}lan = {self.lan}\n"
        known = [
            lease(name, interface, address=self.addresses[name])
            for name, interface in (("dsl", "ppp0"), ("cable", "eth1"))
            if self.addresses.get(name)
        ]
        if only and not self.addresses.get(only):
            known.append(lease(only, "ppp7"))
        return view_of(kernel, links + (section if self.is_configured else ""), *known, whole=not only, only=only)

    def run(self, only: str = "", links: str = LINKS) -> list[str]:
        """Bring the files in line; returns what failed."""
        view = self.view(only, links)
        _, failures = engine.apply(view, engine.plan(view))
        return [failure.line for failure in failures]

    def in_line(self, only: str = "", links: str = LINKS) -> None:
        """As run, and then there is nothing left to do."""
        assert self.run(only, links) == []
        assert self.commands(only, links) == []

    def commands(self, only: str = "", links: str = LINKS) -> list[str]:
        view = self.view(only, links)
        return engine.commands(view, engine.plan(view))

    def flush(self) -> None:
        view = self.view()
        view.links = []
        assert engine.apply(view, engine.plan(view))[1] == []

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.etc.rglob("*") if path.is_file()}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    os.umask(0o022)
    return Site(tmp_path, monkeypatch)


# --- what is written ---


def test_each_link_has_a_pair_and_glftpd_includes_them(site: Site) -> None:
    site.in_line()
    assert site.multilink.read_bytes() == BOTH
    assert site.config.read_bytes() == site.include + THEIRS
    assert site.backup.read_bytes() == THEIRS
    assert sorted(path.name for path in site.etc.iterdir()) == [
        "glftpd.conf", "glftpd.conf.multihook-backup", "multilink.conf",
    ]  # fmt: skip


def test_an_event_rewrites_its_own_block_only(site: Site) -> None:
    site.in_line()
    site.addresses = {"dsl": NEW, "cable": "198.51.100.99"}
    config = standing(site.config)
    site.in_line("dsl")
    assert site.multilink.read_bytes() == framed(block("cable", TWO), block("dsl", NEW))
    assert standing(site.config) == config
    site.addresses["dsl"] = ""
    site.in_line("dsl")
    assert site.multilink.read_bytes() == framed(block("cable", TWO))
    site.addresses["dsl"] = ONE
    site.in_line("dsl")
    site.in_line()
    assert site.multilink.read_bytes() == framed(block("cable", "198.51.100.99"), block("dsl", ONE))


def test_where_nothing_changed_nothing_is_written(site: Site) -> None:
    site.in_line()
    before = [standing(path) for path in (site.config, site.multilink, site.notes, site.etc)]
    site.in_line()
    site.in_line("dsl")
    assert [standing(path) for path in (site.config, site.multilink, site.notes, site.etc)] == before


def test_the_content_follows_from_the_facts_and_not_from_their_order(site: Site) -> None:
    chance = random.Random(1)
    for _ in range(40):
        for _ in range(chance.randrange(5)):
            name = chance.choice(["dsl", "cable"])
            known = {"dsl": [ONE, NEW, ""], "cable": [TWO, "198.51.100.8", ""]}[name]
            site.addresses[name] = chance.choice(known)
            site.in_line(chance.choice([name, ""]))
        site.in_line()
        after = site.multilink.read_bytes()
        site.multilink.unlink()
        site.in_line()
        assert site.multilink.read_bytes() == after


def test_with_no_link_up_the_frame_stands_alone_and_without_lan_there_is_none(site: Site) -> None:
    site.addresses = {}
    site.in_line()
    assert site.multilink.read_bytes() == framed()
    site.lan = "[]"
    site.addresses = {"dsl": ONE}
    site.in_line()
    assert site.multilink.read_bytes() == f"{BEGIN}{block('dsl', ONE)}# multihook: end\n".encode()
    site.lan = '["172.16.*"]'
    site.in_line()
    assert site.multilink.read_bytes() == framed(block("dsl", ONE), lan="172.16.*")


def test_without_the_section_ours_goes_and_what_others_wrote_is_as_it_was(site: Site) -> None:
    site.in_line()
    site.is_configured = False
    site.in_line()
    assert site.config.read_bytes() == THEIRS
    assert not site.multilink.exists()
    assert site.backup.read_bytes() == THEIRS
    assert site.notes.read_text() == f"multihook glftpd 1\nbackup {site.backup}\n"


def test_a_flush_takes_ours_out_and_a_sync_puts_it_back(site: Site) -> None:
    site.in_line()
    before = site.files()
    site.flush()
    assert site.config.read_bytes() == THEIRS
    assert not site.multilink.exists()
    site.in_line()
    assert site.files() == before


def test_files_that_the_configuration_names_no_more_are_left_clean(site: Site) -> None:
    site.in_line()
    old_config, old_multilink = site.config, site.multilink
    site.config, site.multilink = site.etc / "other.conf", site.etc / "other-multilink.conf"
    site.config.write_bytes(b"other\n")
    site.in_line()
    assert old_config.read_bytes() == THEIRS
    assert not old_multilink.exists()
    assert site.config.read_bytes() == site.include + b"other\n"
    assert site.multilink.read_bytes() == BOTH
    # one glftpd.conf, another multilink.conf
    old_multilink, site.multilink = site.multilink, site.etc / "third.conf"
    site.in_line()
    assert site.config.read_bytes() == site.include + b"other\n"
    assert not old_multilink.exists()


@pytest.mark.fault("F18")
def test_with_its_notes_lost_the_marks_in_the_usual_place_tell(site: Site) -> None:
    site.in_line()
    site.notes.unlink()
    site.is_configured = False
    site.in_line()
    assert site.config.read_bytes() == THEIRS
    assert not site.multilink.exists()


def test_files_of_others_in_the_usual_places_are_nothing_to_us_without_the_section(site: Site) -> None:
    site.multilink.write_bytes(b"active_addr 192.0.2.1\n")
    site.config.write_bytes(site.include + THEIRS)
    before = site.files()
    site.is_configured = False
    site.in_line()
    assert site.files() == before


# --- what others wrote ---


def test_a_multilink_file_that_was_never_ours_is_backed_up_and_replaced(site: Site) -> None:
    seed = b"\nifip 10.* 192.168.*\nelseip\n\nactive_addr 192.0.2.9\npasv_addr 192.0.2.9\n\nendifip\n"
    site.multilink.write_bytes(seed)
    site.in_line()
    assert site.multilink.read_bytes() == BOTH
    assert (site.etc / "multilink.conf.multihook-backup").read_bytes() == seed


def test_lines_outside_of_the_marks_are_kept_and_lines_inside_are_not(site: Site) -> None:
    site.in_line()
    text = site.multilink.read_bytes()
    site.multilink.write_bytes(b"pasv_ports 5000-6000\xff\r\n" + text.replace(b"elseip\n", b"elseip\nstray\n") + b"last")
    site.addresses["dsl"] = NEW
    site.in_line("dsl")
    site.in_line()
    right = framed(block("cable", TWO), block("dsl", NEW))
    kept = right.replace(b"\n", b"\r\n") if site.multilink.read_bytes().count(b"\r\n") > 1 else right
    assert site.multilink.read_bytes() == b"pasv_ports 5000-6000\xff\r\n" + kept + b"last"
    site.flush()
    assert site.multilink.read_bytes() == b"pasv_ports 5000-6000\xff\r\nlast"


@pytest.mark.parametrize(
    "damaged",
    [
        BOTH.replace(b"# multihook: end\n", b""),
        BOTH.replace(b"pasv_addr 203.0.113.45\n", b""),
        BOTH.replace(b"pasv_addr 203.0.113.45", b"pasv_addr 203.0.113.46"),
        BOTH.replace(b"active_addr 198.51.100.7", b"active_addr nonsense"),
        BOTH.replace(b"ifip 10.*", b"ifip 172.16.*"),
        BOTH.replace(b"endifip\n", b""),
        BOTH + BOTH,
        BOTH.replace(b"# multihook: link dsl", b"# multihook: link ../x"),
        BOTH[: len(BOTH) // 2],
        BOTH.replace(b"\n", b"  \n"),
        BOTH.replace(b"# multihook: end\n", b"").replace(b"# multihook: begin", b"# multihook: begin\n# multihook: begin"),
        framed(block("dsl", ONE), block("cable", TWO)),
        framed(block("cable", TWO), block("dsl", ONE), block("gone", "192.0.2.1")),
        b"",
        b"\n\n",
    ],
)
def test_what_is_damaged_between_the_marks_is_mended(site: Site, damaged: bytes) -> None:
    site.in_line()
    site.multilink.write_bytes(damaged)
    site.run("dsl")
    site.in_line()
    assert site.multilink.read_bytes() in (BOTH, BOTH[: -len(b"# multihook: end\n")] + b"# multihook: end\n")
    assert not (site.etc / "multilink.conf.multihook-backup").exists()


@pytest.mark.fault("F72")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"a\nb", b"a\nb"),
        (b"INCLUDE", b""),
        (b"a\nINCLUDE\nb\nINCLUDE\n", b"a\nb\n"),
        (b"  include \t MULTILINK  \r\na\n", b"a\n"),
        (b"INCLUDE # of links\na\n", b"a\n"),
        (b"# INCLUDE\na\n", b"# INCLUDE\na\n"),
        (b"#INCLUDE\ninclude MULTILINK.old\nincludes MULTILINK\ninclude\n", None),
        (b"include /etc/other.conf\n\xff\xfe\x00\xe9\nx", None),
        (b"a\rb\rINCLUDE\rc\n", None),
        (b"x" * 100_000 + b"\n", None),
    ],
)
def test_the_include_line_stands_once_and_first_whatever_was_there(
    site: Site, before: bytes, after: bytes | None
) -> None:
    def filled(content: bytes) -> bytes:
        return content.replace(b"INCLUDE", b"include MULTILINK").replace(b"MULTILINK", bytes(site.multilink))

    site.config.write_bytes(filled(before))
    site.in_line()
    end = b"\r\n" if filled(before).partition(b"\n")[0].endswith(b"\r") else b"\n"
    line = b"include " + bytes(site.multilink) + end
    assert site.config.read_bytes() == line + filled(before if after is None else after)
    site.flush()
    assert site.config.read_bytes() == filled(before if after is None else after)


@pytest.mark.fault("F72")
def test_files_with_carriage_returns_keep_them(site: Site) -> None:
    site.config.write_bytes(THEIRS.replace(b"\n", b"\r\n"))
    site.multilink.write_bytes(b"x\r\n")
    site.in_line()
    assert site.config.read_bytes() == (site.include + THEIRS).replace(b"\n", b"\r\n")
    assert site.multilink.read_bytes() == BOTH.replace(b"\n", b"\r\n")
    site.addresses["dsl"] = NEW
    site.in_line("dsl")
    assert site.multilink.read_bytes() == framed(block("cable", TWO), block("dsl", NEW)).replace(b"\n", b"\r\n")
    site.flush()
    assert site.config.read_bytes() == THEIRS.replace(b"\n", b"\r\n")


def test_ten_megabytes_are_read_and_written(site: Site) -> None:
    content = b"".join(b"path%d /site/x !8 *\n" % number for number in range(450_000))
    assert len(content) > 10_000_000
    site.config.write_bytes(content)
    site.in_line()
    assert site.config.read_bytes() == site.include + content


@pytest.mark.fault("F72")
def test_the_first_backup_is_never_written_again(site: Site) -> None:
    site.in_line()
    site.config.write_bytes(b"changed since\n")
    site.in_line()
    assert site.config.read_bytes() == site.include + b"changed since\n"
    assert site.backup.read_bytes() == THEIRS


@pytest.mark.fault("F72")
@pytest.mark.parametrize("put", [lambda path: path.symlink_to("nowhere"), Path.mkdir, os.mkfifo])
def test_where_something_else_has_the_name_of_the_backup_nothing_is_changed(
    site: Site, put: Callable[[Path], object]
) -> None:
    """Without a backup what glftpd had would be lost; what is there is somebody's."""
    put(site.backup)
    assert site.run() == [
        f"not written: {site.backup}: is no file, so what is there now cannot be kept; take it away; "
        "`multihook sync` tries again"
    ]
    assert site.config.read_bytes() == THEIRS and not site.notes.exists() or "backup" not in site.notes.read_text()


@pytest.mark.fault("F72")
def test_a_backup_that_was_moved_away_and_linked_to_is_one(site: Site) -> None:
    site.backup.symlink_to("elsewhere")
    (site.etc / "elsewhere").write_bytes(b"the first one")
    site.in_line()
    assert site.config.read_bytes() == site.include + THEIRS
    assert (site.etc / "elsewhere").read_bytes() == b"the first one"


@pytest.mark.fault("F72")
def test_owner_mode_and_attributes_are_kept(site: Site) -> None:
    site.config.chmod(0o600)
    groups = [group for group in os.getgroups() if group != os.getegid()]
    group = 4242 if os.geteuid() == 0 else groups[0] if groups else os.getegid()
    os.chown(site.config, -1, group)
    site.multilink.write_bytes(b"x\n")
    site.multilink.chmod(0o640)
    site.in_line()
    for path, mode in ((site.config, 0o600), (site.backup, 0o600), (site.multilink, 0o640)):
        assert path.stat().st_mode & 0o7777 == mode
    assert (site.config.stat().st_gid, site.backup.stat().st_gid) == (group, group)
    try:
        os.setxattr(site.config, "user.note", b"kept")
    except OSError:
        return  # the file system of this folder has none
    site.flush()
    site.in_line()
    assert os.getxattr(site.config, "user.note") == b"kept"


@pytest.mark.fault("F72")
def test_symbolic_links_stay_and_their_target_is_replaced(site: Site) -> None:
    chroot = site.etc.parent / "glftpd"
    chroot.mkdir()
    for path in (site.config, site.multilink):
        (chroot / path.name).write_bytes(THEIRS if path == site.config else b"")
        path.unlink(missing_ok=True)
        path.symlink_to(f"../glftpd/{path.name}")
    site.in_line()
    assert site.config.is_symlink() and site.multilink.is_symlink()
    assert (chroot / "glftpd.conf").read_bytes() == site.include + THEIRS
    assert (chroot / "glftpd.conf.multihook-backup").read_bytes() == THEIRS
    assert (chroot / "multilink.conf").read_bytes() == BOTH
    site.addresses["dsl"] = NEW
    site.in_line("dsl")
    assert site.multilink.is_symlink()
    site.flush()
    assert site.config.is_symlink() and site.config.read_bytes() == THEIRS
    site.in_line()
    assert (chroot / "multilink.conf").read_bytes() == framed(block("cable", TWO), block("dsl", NEW))


# --- what is left alone, and said ---


def said(site: Site) -> list[str]:
    view = site.view()
    engine.plan(view)
    return engine.remarks(view)


def replace_by_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def replace_by_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


def replace_by_dangling_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/nowhere/at/all/x.conf")


def standing(path: Path) -> tuple[int, ...]:
    """What differs where somebody wrote or replaced a file; who only looked has changed its st_atime."""
    status = os.lstat(path)
    return status.st_ino, status.st_mode, status.st_uid, status.st_size, status.st_mtime_ns, status.st_nlink


def replace_by_itself(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def second_name(path: Path) -> None:
    path.touch()
    os.link(path, path.with_name("other-name"))


def open_to_others(path: Path) -> None:
    path.touch()
    path.chmod(0o664)


def too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, (1 << 24) + 1)


def in_an_open_folder(path: Path) -> None:
    folder = path.parent.parent / "open"
    folder.mkdir(exist_ok=True)
    (folder / path.name).write_bytes(b"theirs\n")
    path.unlink(missing_ok=True)
    path.symlink_to(folder / path.name)
    folder.chmod(0o777)


REFUSED = {
    "is not a plain file": [replace_by_folder, replace_by_fifo],
    "No such file or directory": [replace_by_dangling_folder],
    "is a symbolic link without an end": [replace_by_itself],
    "has 2 names (hard links)": [second_name],
    "can be written by others than its owner": [open_to_others, in_an_open_folder],
    "is larger than": [too_large],
}


@pytest.mark.fault("F72")
@pytest.mark.parametrize(("why", "spoil"), [(why, spoil) for why, spoils in REFUSED.items() for spoil in spoils])
def test_a_glftpd_conf_that_cannot_be_trusted_is_left_alone_and_said_in_one_line(
    site: Site, why: str, spoil: Callable[[Path], None]
) -> None:
    spoil(site.config)
    before = standing(site.config)
    site.in_line()
    assert standing(site.config) == before
    assert site.multilink.read_bytes() == BOTH, "what can be right is right"
    (line,) = said(site)
    assert why in line and line.startswith(f"glftpd does not include {site.multilink}: /")
    assert not site.backup.exists()


def test_a_multilink_conf_that_is_glftpd_conf_by_a_link_is_left_alone(site: Site) -> None:
    """It would be replaced as a whole by what it is to include, and be taken away by flush."""
    site.multilink.symlink_to(site.config.name)
    for _ in range(2):
        site.in_line()
        assert site.config.read_bytes() == THEIRS
    (line,) = said(site)
    assert line == f"glftpd gets no addresses: {site.multilink}: is {site.config} itself; name another file"
    site.is_configured = False
    site.in_line()
    assert site.config.read_bytes() == THEIRS and site.multilink.is_symlink()


@pytest.mark.parametrize(("why", "spoil"), [(why, spoil) for why, spoils in REFUSED.items() for spoil in spoils])
def test_a_multilink_conf_that_cannot_be_trusted_is_left_alone_and_not_included(
    site: Site, why: str, spoil: Callable[[Path], None]
) -> None:
    spoil(site.multilink)
    before = standing(site.multilink)
    site.in_line()
    site.in_line("dsl")
    assert standing(site.multilink) == before
    assert site.config.read_bytes() == THEIRS
    (line,) = said(site)
    assert why in line and line.startswith("glftpd gets no addresses: ")


def test_files_and_links_that_are_not_roots_are_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.lstat

    def not_roots(path: str) -> Any:
        status = list(real(path))
        if path == str(site.config):
            status[4] = 4242
        return os.stat_result(status)

    site.config.rename(site.etc / "target")
    site.config.symlink_to("target")
    monkeypatch.setattr(files, "lstat", not_roots)
    site.in_line()
    assert (site.etc / "target").read_bytes() == THEIRS
    assert said(site) == [
        f"glftpd does not include {site.multilink}: {site.config}: belongs to user 4242, not to root"
    ]


@pytest.mark.fault("F72")
def test_a_missing_glftpd_conf_is_said_and_the_rest_is_done(site: Site) -> None:
    site.config.unlink()
    site.in_line()
    assert not site.config.exists()
    assert site.multilink.read_bytes() == BOTH
    assert said(site) == [f"glftpd does not include {site.multilink}: {site.config}: No such file or directory"]
    site.config.write_bytes(THEIRS)
    site.in_line()
    assert (site.config.read_bytes(), said(site)) == (site.include + THEIRS, [])


def test_a_private_address_is_said(site: Site) -> None:
    site.addresses = {"dsl": ONE, "cable": "192.168.1.7"}
    (line,) = said(site)
    assert line.startswith("cable: 192.168.1.7 is private")
    site.is_configured = False
    assert said(site) == []


@pytest.mark.fault("F72")
@pytest.mark.parametrize("call", ["rename", "fsync", "fchown", "link", "posix_write"])
def test_a_failure_at_any_step_leaves_the_file_as_it_was_and_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    site.multilink.write_bytes(b"theirs\n")
    before = site.files()
    monkeypatch.setattr(edits if call == "link" else files, call, refuse)
    failures = site.run()
    assert failures and all("Read-only file system" in line for line in failures)
    assert site.files() == before
    monkeypatch.undo()


# --- what the engine is told ---


def test_what_should_be_there_follows_from_configuration_and_links_alone(site: Site) -> None:
    names = (str(site.config), str(site.multilink))
    patterns = [b"10.*", b"192.168.*"]
    right = [Frame(names[1], patterns), *(Block(names[1], *of_it) for of_it in TWO_PAIRS), Include(*names)]
    assert glftpd.desired(site.view()) == right
    replace_by_folder(site.config)
    replace_by_fifo(site.multilink)
    assert glftpd.desired(site.view()) == right
    assert glftpd.desired(site.view("dsl")) == [right[0], right[2], right[3]]
    assert blocks.KIND.possible(site.view(), right) == []


def test_a_block_is_its_links_or_left_over(site: Site) -> None:
    site.in_line()
    content = framed(block("cable", TWO), block("dsl", ONE), block("former", NEW), block("other", NEW))
    site.multilink.write_bytes(content)
    view = site.view()
    view.others = {203: "other", "eth7": "other"}
    there = [one for one in blocks.KIND.read(view, []) if isinstance(one, Block)]
    assert [(one.name, one.link) for one in there] == [
        ("cable", "cable"), ("dsl", "dsl"), ("former", ""), ("other", "other"),
    ]  # fmt: skip
    assert {one.name for one in blocks.KIND.read(site.view("dsl"), []) if isinstance(one, Block)} == {"dsl"}


def test_blocks_are_counted_of_the_configured_file_alike_by_a_look_and_by_what_was_read(site: Site) -> None:
    site.in_line()
    old = site.multilink
    site.multilink = site.etc / "other.conf"
    for count in (0, 2):
        view = site.view()
        there = blocks.KIND.read(view, [])
        assert sum(isinstance(one, Block) and one.multilink == str(old) for one in there) == 2 - count
        assert blocks.KIND.signature(view, [], False) == blocks.KIND.tally(view, there) == {"glftpd": count}
        site.in_line()
    site.is_configured = False
    assert blocks.KIND.signature(site.view(), [], True) == blocks.KIND.tally(site.view(), there) == {}


def test_what_cannot_be_used_is_said_once_and_no_longer_than_it_is_so(site: Site) -> None:
    site.config.unlink()
    view = site.view()
    engine.plan(view)
    engine.plan(view)
    assert len(engine.remarks(view)) == 1
    site.config.write_bytes(THEIRS)
    view.read.clear()
    engine.plan(view)
    assert engine.remarks(view) == []


def test_a_file_that_only_root_may_read_is_nothing_to_say_to_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str, limit: int) -> bytes:
        raise PermissionError(EACCES, "Permission denied", path)

    monkeypatch.setattr(files, "read", refused)
    monkeypatch.setattr(edits, "geteuid", lambda: 0)
    assert said(site) and all("Permission denied" in line for line in said(site))
    monkeypatch.setattr(edits, "geteuid", lambda: 4242)
    assert said(site) == []


# --- killed between any two steps ---


class Killed(BaseException):
    """kill -9, as far as one process can do it to itself."""


def kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Die before the number-th call that changes a file; returns the calls as they are made."""
    made: list[str] = []

    def guarded(module: Any, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **more: Any) -> Any:
            if len(made) == number:
                raise Killed
            made.append(name)
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, call)

    for name in ("rename", "posix_write", "fchmod", "fsync", "unlink", "mkdir"):
        guarded(files, name)
    for name in ("link", "unlink"):
        guarded(edits, name)
    monkeypatch.setattr(files, "access", lambda path, mode: False)  # no process of that number
    return made


@pytest.mark.thorough
@pytest.mark.fault("F15", "F72")
@pytest.mark.parametrize("direction", ["in", "out"])
def test_killed_at_any_step_each_file_is_the_old_or_the_new_one_and_the_next_run_ends_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    site.multilink.write_bytes(b"theirs\n")
    start = site.files()
    if direction == "out":
        site.in_line()
    else:
        site.in_line()
        end = site.files()
        site.flush()
    steps = 0
    while True:
        for path in list(site.etc.iterdir()):
            path.unlink()
        for path, content in start.items():
            Path(path).write_bytes(content)
        site.notes.unlink(missing_ok=True)
        if direction == "out":
            site.in_line()
        with monkeypatch.context() as patches:
            kill_at(patches, steps)
            try:
                site.flush() if direction == "out" else site.run()
                died = False
            except Killed:
                died = True
        for path, name in ((site.config, "glftpd.conf"), (site.multilink, "multilink.conf")):
            if path.exists():
                content = path.read_bytes()
                assert content in (start[str(path)], site.include + THEIRS) or content.startswith(BEGIN.encode()), name
        if direction == "out":
            site.flush()
            assert site.config.read_bytes() == THEIRS
            assert not site.multilink.exists()
            assert not list(site.etc.glob("*.new"))
        else:
            site.in_line()
            assert {path: content for path, content in site.files().items() if ".new" not in path} == end
        if not died:
            break
        steps += 1
    assert steps > 5


@pytest.mark.fault("F15")
def test_what_a_killed_run_left_half_written_goes_with_the_next_change_and_with_a_sweep(site: Site) -> None:
    def leave() -> list[Path]:
        left = [path.with_name(f"{path.name}.99999999.new") for path in (site.config, site.multilink)]
        for path in left:
            path.write_bytes(b"half")
        return left

    theirs = site.etc / "glftpd.conf.new"
    theirs.write_bytes(b"theirs\n")
    left = leave()
    site.in_line()
    assert not any(path.exists() for path in left)
    left = leave()
    site.in_line()
    assert all(path.exists() for path in left), "there was nothing to change"
    blocks.sweep(site.view().config)
    assert not any(path.exists() for path in left) and theirs.exists()


# --- as text ---


@pytest.mark.thorough
@pytest.mark.parametrize("end_of_line", [b"\n", b"\r\n"])
@pytest.mark.parametrize("theirs", [b"", THEIRS, b"x\n#include MULTILINK\n include  MULTILINK \ny\xff", b"\n"])
@pytest.mark.parametrize("had", [None, b"", b"old 'quoted' 100% \\ \xe9\x00\n"])
def test_the_commands_pasted_do_the_same(site: Site, end_of_line: bytes, theirs: bytes, had: bytes | None) -> None:
    def start() -> None:
        for path in list(site.etc.iterdir()):
            path.unlink()
        site.config.write_bytes(theirs.replace(b"MULTILINK", bytes(site.multilink)).replace(b"\n", end_of_line))
        if had is not None:
            site.multilink.write_bytes(had.replace(b"\n", end_of_line))

    def paste() -> None:
        lines = site.commands()
        assert all("\n" not in line for line in lines)
        subprocess.run(["/bin/sh", "-e", "-u", "-c", "\n".join(lines)], check=True, cwd="/", env={"PATH": "/bin:/usr/bin"})
        assert site.commands() == []

    start()
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: site.addresses.update(dsl=NEW),
        lambda: site.addresses.update(cable=""),
        lambda: site.addresses.update(cable=TWO, dsl=""),
        lambda: site.addresses.update(dsl=ONE),
        lambda: setattr(site, "lan", '["172.16.*"]'),
        lambda: setattr(site, "lan", "[]"),
        lambda: setattr(site, "is_configured", False),
    ]
    expected = []
    for change in changes:
        change()
        site.in_line()
        expected.append(site.files())
    site.addresses, site.lan, site.is_configured = {"dsl": ONE, "cable": TWO}, '["10.*", "192.168.*"]', True
    start()
    site.notes.unlink()
    files_seen = []
    for change in changes:
        change()
        if not site.is_configured:
            edits.note_place((str(site.config), str(site.multilink)))
        paste()
        files_seen.append(site.files())
    for was, seen in zip(expected, files_seen, strict=True):
        assert seen == was


def test_a_path_that_a_shell_would_read_otherwise_is_quoted(site: Site) -> None:
    site.config = site.etc / "it's $(reboot)"
    site.config.write_bytes(THEIRS)
    site.multilink = site.etc / "a.b*[c]^$'\\x"
    lines = site.commands()
    subprocess.run(["/bin/sh", "-e", "-u", "-c", "\n".join(lines)], check=True, cwd="/", env={"PATH": "/bin:/usr/bin"})
    assert site.commands() == []
    assert site.config.read_bytes() == site.include + THEIRS
