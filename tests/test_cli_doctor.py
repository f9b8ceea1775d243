"""``poslock doctor``: what makes a lock directory unsafe, and the proof that one is safe."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poslock import ExchangeUnavailable, KeysRefused, PoslockError, UnderMaintenance, UnsupportedMarket
from poslock.exchange.ccxt.venue import Inspection
from poslock_cli import mounts, proof, venue_checks
from poslock_cli.configuration import ConfigurationError
from poslock_cli.main import main
from poslock_cli.mounts import judge
from poslock_cli.proof import Facts

LOCAL_DISK = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"


@pytest.fixture(autouse=True)
def _on_a_local_disk(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests run on, a tmpfs say, and whatever is configured there."""
    for variable in ("POSLOCK_CONFIG", "POSLOCK_API_KEY", "POSLOCK_API_SECRET", "POSLOCK_API_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "no configuration"))
    table = tmp_path_factory.mktemp("mounts") / "mountinfo"
    table.write_text(LOCAL_DISK)
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(table))


def doctor(path: object, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the findings by what was checked."""
    result = CliRunner().invoke(main, ["--lock-dir", str(path), "doctor", "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, {each["check"]: each for each in json.loads(result.stdout)}


def verdicts(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: each["verdict"] for name, each in findings.items()}


def test_a_directory_of_ones_own_is_proven_safe(tmp_path: Path) -> None:
    """Exit 0; two processes have shown it, and no lock is left of them."""
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o700)
    code, findings = doctor(folder)
    assert (code, {each["verdict"] for each in findings.values()}) == (0, {"ok"})
    assert list(findings) == [
        "directory", "access", "file system", "free space", "boot id", "clock", "writable",
        "exclusion", "presence", "takeover", "venue",
    ]  # fmt: skip
    assert [each.name for each in folder.iterdir()] == [".presence"]


def test_people_get_lines_with_a_way_out(tmp_path: Path) -> None:
    """The same findings as text; nothing a terminal obeys."""
    folder = tmp_path / "\x1b[2J"
    folder.mkdir()
    folder.chmod(0o777)
    result = CliRunner().invoke(main, ["--lock-dir", str(folder), "doctor"])
    assert result.exit_code == 1
    assert f"REFUSED  access       mode 0777, owner {os.geteuid()}: is writable by everybody\n" in result.stdout
    assert "chmod 700 it" in result.stdout
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """It may be a slip of the pen: a warning that says how to make it, no proof, exit 1."""
    folder = tmp_path / "a" / "b"
    code, findings = doctor(folder)
    assert (code, findings["directory"]["verdict"], findings["proof"]["verdict"]) == (1, "warning", "REFUSED")
    assert f"mkdir -p -m 700 {folder}" in findings["directory"]["way_out"]
    assert "file system" in findings
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", ["file", "below a file", "fifo", "socket"])
def test_what_is_no_directory_is_a_finding(tmp_path: Path, kind: str) -> None:
    """Never a traceback."""
    path = tmp_path / "odd"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.bind(str(path))
        case _:
            path.touch()
    code, findings = doctor(path / "x" if kind == "below a file" else path)
    assert (code, findings["directory"]["verdict"], findings["proof"]["verdict"]) == (1, "REFUSED", "REFUSED")
    assert findings["directory"]["way_out"]


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Nothing is written there."""
    foreign = Path("/usr")
    if os.geteuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 12345, -1)
    before = set(foreign.iterdir())
    code, findings = doctor(foreign)
    assert (code, findings["access"]["verdict"], findings["proof"]["verdict"]) == (1, "REFUSED", "REFUSED")
    assert set(foreign.iterdir()) == before


@pytest.mark.parametrize(
    ("mode", "verdict", "code"), [(0o777, "REFUSED", 1), (0o1777, "REFUSED", 1), (0o770, "ok", 0), (0o2770, "ok", 0)]
)
def test_who_else_may_write_is_told(tmp_path: Path, mode: int, verdict: str, code: int) -> None:
    """Everybody is refused; the own group is not, nor one that the directory is shared with on purpose."""
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(mode)
    assert (doctor(folder)[0], doctor(folder)[1]["access"]["verdict"]) == (code, verdict)


@pytest.mark.parametrize("exists", [True, False])
def test_a_parent_that_everybody_may_write_is_told(tmp_path: Path, *, exists: bool) -> None:
    """As a bot refuses it; and its way out works."""
    parent = tmp_path / "parent"
    (parent / "locks").mkdir(mode=0o700, parents=True) if exists else parent.mkdir()
    parent.chmod(0o777)
    code, findings = doctor(parent / "locks")
    assert (code, findings["access"]["verdict"]) == (1, "REFUSED")
    assert str(parent) in findings["access"]["reason"]
    assert "chmod +t" in findings["access"]["way_out"]
    parent.chmod(0o1777)
    assert "access" not in doctor(parent / "locks")[1] or doctor(parent / "locks")[1]["access"]["verdict"] == "ok"


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's mount table; nothing is tried on it, for it might hang."""
    table = tmp_path / "mountinfo"
    table.write_text(f"{LOCAL_DISK}30 22 0:9 / {tmp_path} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(table))
    folder = tmp_path / "locks"
    folder.mkdir()
    code, findings = doctor(folder)
    assert (code, findings["file system"]["verdict"], findings["proof"]["verdict"]) == (1, "REFUSED", "REFUSED")
    assert list(folder.iterdir()) == []


def test_an_unknown_file_system_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no mount table, the operator is asked to look; the proof counts."""
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(tmp_path / "none"))
    (tmp_path / "locks").mkdir()
    code, findings = doctor(tmp_path / "locks")
    assert (code, findings["file system"]["verdict"]) == (0, "warning")


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's reason, and without a proof that could only fail."""

    def full(_: int) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setattr(os, "fsync", full)
    code, findings = doctor(folder)
    assert (code, findings["writable"]["verdict"], findings["proof"]["reason"]) == (1, "REFUSED", "not tried")
    assert os.strerror(ENOSPC) in findings["writable"]["reason"]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [(each, "REFUSED") for each in ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "fuse.glusterfs")]
    + [(each, "REFUSED") for each in ("lustre", "afs", "gfs2", "ocfs2", "virtiofs")]
    + [(each, "ok") for each in ("ext4", "xfs", "btrfs", "zfs", "apfs", "fuseblk")]
    + [(each, "warning") for each in ("tmpfs", "overlay", "fuse.mergerfs", "fuse.fuse-overlayfs", "fuse.gocryptfs")],
)
def test_file_systems_of_several_hosts_are_refused(kind: str, verdict: str) -> None:
    """What only this host mounts is fine; what may be anything, or is gone at a reboot, is worth a warning."""
    assert judge(kind, "/x").verdict == verdict


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(True, False, True, False, 0.1), {"exclusion": "ok", "presence": "ok", "takeover": "ok"}),
        (Facts(True, True, True, None, None), {"exclusion": "REFUSED", "presence": "REFUSED", "takeover": "REFUSED"}),
        (Facts(True, False, None, None, 0.1), {"exclusion": "ok", "presence": "REFUSED", "takeover": "ok"}),
        (Facts(True, False, True, True, None), {"exclusion": "ok", "presence": "REFUSED", "takeover": "REFUSED"}),
        (Facts(True, False, True, False, 29.0), {"exclusion": "ok", "presence": "ok", "takeover": "REFUSED"}),
        (Facts(False, False, None, None, None), {"proof": "REFUSED"}),
    ],
)
def test_the_proof_is_held_against_the_promises(facts: Facts, expected: dict[str, str]) -> None:
    """Each broken one is refused by its name."""
    assert {each.check: each.verdict for each in proof.judge(facts)} == expected


def test_processes_that_do_not_exclude_each_other_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the file system told every process something else: each of the two looks into a directory of its own."""
    folder = tmp_path / "locks"
    folder.mkdir()

    class Astray(proof._Prover):
        started = 0

        def __init__(self, path: str, position: str) -> None:
            Astray.started += 1
            super().__init__(f"{path}/{Astray.started}", position)

    monkeypatch.setattr(proof, "_Prover", Astray)
    code, findings = doctor(folder)
    assert (code, findings["exclusion"]["verdict"]) == (1, "REFUSED")


def test_a_proof_that_cannot_be_made_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback, and not "safe"."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    code, findings = doctor(tmp_path / "locks")
    assert (code, findings["proof"]["verdict"]) == (1, "REFUSED")
    assert "it could not be made" in findings["proof"]["reason"]


# The venue, as a stub; the real client asks a loopback one in test_cli_venue.py.


def at_venue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Inspection | PoslockError | ConfigurationError
) -> tuple[int, dict[str, dict[str, Any]]]:
    """What `doctor` says of a venue that answers so, with keys in the environment."""

    class Account:
        account = "mexc swap main"

        def inspect(self) -> Inspection:
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(venue_checks, "open_venue", lambda path, venue: Account())
    (tmp_path / "locks").mkdir(exist_ok=True)
    config = tmp_path / "poslock.toml"
    config.write_text('venue = "mexc"\naccount = "main"\n')
    monkeypatch.setenv("POSLOCK_CONFIG", str(config))
    return doctor(tmp_path / "locks")


GOOD = Inspection(clock_ms=0, hedge=False, may_trade=True, may_withdraw=False)


def test_a_venue_in_order_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 0, after what there is to say about the directory."""
    code, findings = at_venue(tmp_path, monkeypatch, GOOD)
    assert (code, {each["verdict"] for each in findings.values()}) == (0, {"ok"})
    assert list(findings)[-6:] == ["keys file", "venue", "venue clock", "mode", "trading", "withdrawal"]
    assert findings["keys file"]["reason"] == "none; the keys come from the environment"
    assert findings["mode"]["reason"] == "one-way"


def test_that_no_venue_is_configured_is_said(tmp_path: Path) -> None:
    """With the file in which it would be; that is nothing bad."""
    (tmp_path / "locks").mkdir()
    code, findings = doctor(tmp_path / "locks")
    assert (code, findings["venue"]["verdict"]) == (0, "ok")
    assert findings["venue"]["reason"].startswith("none is configured in /")


@pytest.mark.parametrize(
    ("change", "check", "verdict", "reason"),
    [
        ({"clock_ms": 1000}, "venue clock", "ok", "1000 ms ahead of the venue's"),
        ({"clock_ms": 1001}, "venue clock", "warning", "1001 ms ahead of the venue's"),
        ({"clock_ms": -1000}, "venue clock", "ok", "1000 ms behind the venue's"),
        ({"clock_ms": -86_400_000}, "venue clock", "warning", "86400000 ms behind the venue's"),
        ({"hedge": True}, "mode", "ok", "hedge: a long and a short side of each market"),
        ({"hedge": None}, "mode", "ok", "unknown: the venue does not say"),
        ({"may_trade": False}, "trading", "REFUSED", "the key may not trade, so nothing can be closed"),
        ({"may_trade": None}, "trading", "warning", "unknown: the venue does not say"),
        (
            {"may_withdraw": True},
            "withdrawal",
            "warning",
            "the key may withdraw: whoever gets it can empty the account",
        ),
        ({"may_withdraw": None}, "withdrawal", "warning", "unknown: the venue does not say"),
    ],
)
def test_what_the_venue_says_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], check: str, verdict: str, reason: str
) -> None:
    """Point by point; what is unknown is said to be, and is no reason to fail."""
    code, findings = at_venue(tmp_path, monkeypatch, replace(GOOD, **change))
    assert (findings[check]["verdict"], findings[check]["reason"]) == (verdict, reason)
    assert code == (1 if verdict == "REFUSED" else 0)
    assert bool(findings[check]["way_out"]) == (verdict != "ok")
    others = {name: each["verdict"] for name, each in findings.items() if name != check}
    assert set(others.values()) == {"ok"}


def test_a_key_that_may_withdraw_has_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in words that can be followed."""
    _, findings = at_venue(tmp_path, monkeypatch, replace(GOOD, may_withdraw=True))
    assert findings["withdrawal"]["way_out"] == "make a key without it"


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (KeysRefused("mexc answered 602: \x1b[2J signature", code="602"), "keys"),
        (ExchangeUnavailable("mexc: no answer that can be read (NetworkError)"), "venue"),
        (UnderMaintenance("mexc answered 801: maintenance", code="801"), "venue"),
        (UnsupportedMarket("mexc: mode 3 is not known"), "venue"),
        (ConfigurationError("/etc/poslock.toml", "mexc needs secret", "set $POSLOCK_API_SECRET"), "venue"),
    ],
)
def test_what_keeps_the_venue_from_answering_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: PoslockError | ConfigurationError, check: str
) -> None:
    """In its words, with a way out, and nothing else is said of it; the directory is examined all the same."""
    code, findings = at_venue(tmp_path, monkeypatch, error)
    assert (code, findings[check]["verdict"], findings["takeover"]["verdict"]) == (1, "REFUSED", "ok")
    assert str(error) in findings[check]["reason"] or error.args[0].startswith(findings[check]["reason"])
    assert findings[check]["way_out"]
    assert "trading" not in findings
    text = CliRunner().invoke(main, ["--lock-dir", str(tmp_path / "locks"), "doctor"]).stdout
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_keys_file_that_others_can_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_environment: bool
) -> None:
    """Also if the keys come from the environment: those in the file are seen all the same. The venue is not asked."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "keys.toml").write_text('api_key = "k"\nsecret = "s"\n')
    (tmp_path / "keys.toml").chmod(0o640)
    config = tmp_path / "poslock.toml"
    config.write_text('venue = "mexc"\naccount = "main"\nkeys_file = "keys.toml"\n')
    monkeypatch.setenv("POSLOCK_CONFIG", str(config))
    if by_environment:
        monkeypatch.setenv("POSLOCK_API_KEY", "k")
        monkeypatch.setenv("POSLOCK_API_SECRET", "s")
    code, findings = doctor(tmp_path / "locks")
    assert (code, findings["keys file"]["verdict"], "venue" in findings) == (1, "REFUSED", False)
    assert "has mode 0640" in findings["keys file"]["reason"]
    assert findings["keys file"]["way_out"] == f"chmod 600 {tmp_path}/keys.toml"
