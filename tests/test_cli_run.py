"""``poslock run``: the command, its lock, and what ends them."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import poslock_cli
from poslock import LockFileError, PositionLock
from poslock.lock.files.directory import open_directory
from poslock.lock.status import lock_status
from poslock.lock.transitions import Transitions
from poslock_cli.supervisor import Supervisor
from processes import PATIENCE, Child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POSLOCK = [sys.executable, "-m", "poslock_cli", "--lock-dir"]
# Says its PID, and one thing for every line it reads.
OBEDIENT = 'echo "{\\"pid\\": $$}"; while read word; do echo "{\\"said\\": \\"$word\\"}"; done; exit 5'


class Wrapper(Child):
    """A ``poslock run`` whose command says JSON lines."""

    def __init__(self, lock_dir: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*POSLOCK, lock_dir, "run", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self.process.pid
        self._buffer = b""

    def wait(self) -> tuple[int, str]:
        """Exit code, and what is on standard error."""
        code = self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        return code, self.process.stderr.read().decode()

    def end(self) -> None:
        super().end()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def wrap(lock_dir: str) -> Iterator[Callable[..., Wrapper]]:
    """Starts wrappers and ends them with the test."""
    started: list[Wrapper] = []

    def start(*arguments: str) -> Wrapper:
        started.append(Wrapper(lock_dir, *arguments))
        return started[-1]

    yield start
    for wrapper in started:
        wrapper.end()


def run(lock_dir: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [*POSLOCK, lock_dir, "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)


def is_gone(pid: int) -> bool:
    """Whether a process ends soon, waited for or not."""
    return is_in(pid, "ZX")


def is_in(pid: int, states: str) -> bool:
    """Whether a process soon is in one of these states of /proc/PID/stat; one that is gone is in X."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            state = "X"
        if state in states:
            return True
        if state == "X":
            return False
        time.sleep(0.01)
    return False


def state(lock_dir: str) -> str:
    return lock_status(open_directory(lock_dir), "btc-1").state


def clear_by_force(lock_dir: str) -> None:
    Transitions(open_directory(lock_dir), "btc-1").clear(force=True)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_the_exit_code_is_that_of_the_command(lock_dir: str, script: str, code: int) -> None:
    """128 + N if signal N killed it; the lock is free afterwards."""
    done = run(lock_dir, "btc-1", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, "")
    assert state(lock_dir) == "free"


def test_the_command_runs_under_the_lock_and_knows_its_token(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """The lock is held while the command lives; position, token and directory are in its environment."""
    script = 'echo "{\\"told\\": [\\"$POSLOCK_POSITION\\", $POSLOCK_TOKEN, \\"$POSLOCK_DIR\\"]}"; read word; exit 3'
    wrapper = wrap("btc-1", "--", "sh", "-c", script)
    told = wrapper.hear()["told"]
    status = lock_status(open_directory(lock_dir), "btc-1")
    assert (status.state, status.holders[0].pid, status.holders[0].purpose) == ("held", wrapper.pid, "run: sh")
    assert told == ["btc-1", status.token, lock_dir]
    wrapper.tell()
    assert wrapper.wait() == (3, "")


def test_a_busy_lock_is_exit_75_and_names_the_holder(lock_dir: str, tmp_path: Path) -> None:
    """In one line; the command is not started."""
    with PositionLock("btc-1", lock_dir=lock_dir, purpose="move the stop"):
        done = run(lock_dir, "--timeout", "0", "btc-1", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 75
    assert len(done.stderr.splitlines()) == 1
    assert f"held by PID {os.getpid()} on {os.uname().nodename} (move the stop)" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "\u202e", "\udcff"])
def test_the_path_of_a_lock_that_stays_busy_is_escaped(tmp_path: Path, name: str) -> None:
    """Where no holder can be named, the message names the file; a terminal does not obey what it is called."""
    lock_dir = f"{tmp_path}/{name}"
    with PositionLock("btc-1", lock_dir=lock_dir) as lock:
        pass
    Path(lock.path).write_bytes(b"damage")
    done = run(lock_dir, "--timeout", "0", "btc-1", "--", "true", errors="surrogateescape")
    assert done.returncode == 75
    assert repr(name)[1:-1] in done.stderr
    assert all(line.isprintable() for line in done.stderr.split("\n"))
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [("no-such-command", 127), ("./no-such-file", 127), ("./plain", 126), ("plain", 126), ("./folder", 126), ("", 127)],
)
def test_what_cannot_be_executed_takes_no_lock(lock_dir: str, tmp_path: Path, name: str, code: int) -> None:
    """Exit 127 if it is not found, 126 if it is no program, as in every shell."""
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run(lock_dir, "btc-1", "--", name, cwd=tmp_path, env={**os.environ, "PATH": path})
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1)
    assert not Path(lock_dir).exists()


@pytest.mark.parametrize(("content", "code"), [("\x7fELF", 126), ("#!/no/such/interpreter\n", 127)])
def test_a_program_that_turns_out_broken_leaves_the_lock_free(
    lock_dir: str, tmp_path: Path, content: str, code: int
) -> None:
    """What the kernel refuses only when it is executed has the same exit codes."""
    broken = tmp_path / "broken"
    broken.write_text(content)
    broken.chmod(0o755)
    done = run(lock_dir, "btc-1", "--", str(broken))
    assert (done.returncode, "cannot be executed" in done.stderr) == (code, True)
    assert state(lock_dir) == "free"


def test_signals_reach_the_command(wrap: Callable[..., Wrapper]) -> None:
    """Each of the six, in a command that handles them; its exit code counts."""
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]
    code = (
        "import json, signal, sys\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, {[int(each) for each in numbers]})\n"
        "print('{}', flush=True)\n"
        f"for _ in range({len(numbers)}):\n"
        f"    print(json.dumps(dict(signal=signal.sigwait({[int(each) for each in numbers]}))), flush=True)\n"
        "sys.exit(9)"
    )
    wrapper = wrap("btc-1", "--", sys.executable, "-c", code)
    wrapper.hear()
    for number in numbers:
        wrapper.process.send_signal(number)
        assert wrapper.hear() == {"signal": number}
    assert wrapper.wait() == (9, "")


def test_a_signal_that_kills_the_command_frees_the_lock(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """SIGTERM to the wrapper of a command that does not handle it: all of the command's group is gone, exit 143."""
    wrapper = wrap("btc-1", "--", "sh", "-c", 'sleep 600 & echo "{\\"pids\\": [$$, $!]}"; wait')
    pids = wrapper.hear()["pids"]
    wrapper.process.terminate()
    assert wrapper.wait() == (143, "")
    assert all(is_gone(pid) for pid in pids)
    assert state(lock_dir) == "free"


def test_the_lease_is_renewed_while_the_command_lives(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """Well before it runs out, without a new grant."""
    wrapper = wrap("--stale-after", "3", "btc-1", "--", "sh", "-c", OBEDIENT)
    wrapper.hear()
    path = Path(lock_status(open_directory(lock_dir), "btc-1").path)
    deadline = time.monotonic() + PATIENCE
    while (record := json.loads(path.read_text()))["holders"][0]["renewed_ns"] == record["holders"][0]["granted_ns"]:
        assert time.monotonic() < deadline, "never renewed"
        time.sleep(0.02)
    (holder,) = record["holders"]
    assert holder["pid"] == wrapper.pid
    assert 0.9e9 < holder["renewed_ns"] - holder["granted_ns"] < 2.9e9


def test_a_cleared_lock_stops_the_command(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """By SIGTERM, which it may use to tidy up; exit 79, whatever the command's own exit code."""
    script = 'trap \'echo "{\\"tidied\\": true}"; exit 0\' TERM; echo "{\\"pid\\": $$}"; read word'
    wrapper = wrap("--stale-after", "3600", "--grace", "60", "btc-1", "--", "sh", "-c", script)
    pid = wrapper.hear()["pid"]
    clear_by_force(lock_dir)
    assert wrapper.hear() == {"tidied": True}
    code, said = wrapper.wait()
    assert (code, len(said.splitlines())) == (79, 1)
    assert "was taken over or cleared since" in said
    assert said.endswith("the command was stopped\n")
    assert is_gone(pid)


def test_a_lock_that_cannot_be_looked_at_stops_the_command(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """Before its lease has run out, for nothing is certain then."""
    wrapper = wrap("--stale-after", "1.5", "btc-1", "--", "sh", "-c", OBEDIENT)
    pid = wrapper.hear()["pid"]
    path = Path(lock_status(open_directory(lock_dir), "btc-1").path)
    path.rename(f"{path}.away")
    path.mkdir()
    code, said = wrapper.wait()
    assert (code, f"{path}: cannot be used" in said) == (79, True)
    assert is_gone(pid)


@pytest.mark.parametrize(("remaining", "lost"), [(30, False), (16, False), (14, True), (0, True)])
def test_a_look_that_fails_is_repeated_while_there_is_time(remaining: float, lost: bool) -> None:
    """Of a lease of 30 s half is kept for stopping the command."""

    class Unreadable:
        def __init__(self) -> None:
            self.remaining = remaining

        def check(self) -> None:
            raise LockFileError("btc-1", "path", "Input/output error", "look at the disk")

        renew = check

    supervisor = Supervisor(Unreadable(), lambda: None, lease=30, grace=5)  # type: ignore[arg-type, return-value]
    assert (supervisor._lost() is not None) == lost


def test_a_stubborn_command_is_killed_after_the_grace(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """With what it started, even if the command itself ended at SIGTERM."""
    script = '(trap "" TERM; exec sleep 600) & child=$!; sleep 0.1; echo "{\\"pids\\": [$$, $child]}"; wait'
    wrapper = wrap("--grace", "0.3", "btc-1", "--", "sh", "-c", script)
    pids = wrapper.hear()["pids"]
    clear_by_force(lock_dir)
    assert wrapper.wait()[0] == 79
    assert all(is_gone(pid) for pid in pids)


def test_a_stopped_command_is_stopped_for_good_all_the_same(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """SIGSTOP does not keep SIGTERM from it."""
    wrapper = wrap("--grace", "60", "btc-1", "--", "sh", "-c", OBEDIENT)
    pid = wrapper.hear()["pid"]
    os.kill(pid, signal.SIGSTOP)
    clear_by_force(lock_dir)
    assert wrapper.wait()[0] == 79
    assert is_gone(pid)


def test_a_wrapper_stopped_past_its_lease_notices_when_it_is_continued(
    lock_dir: str, wrap: Callable[..., Wrapper]
) -> None:
    """Somebody else took the lock meanwhile: the command ends, and the new holder is not disturbed."""
    wrapper = wrap("--stale-after", "1.5", "btc-1", "--", "sh", "-c", OBEDIENT)
    pid = wrapper.hear()["pid"]
    wrapper.stop()
    with PositionLock("btc-1", lock_dir=lock_dir, timeout=PATIENCE) as lock:
        wrapper.resume()
        code, said = wrapper.wait()
        lock.check()
    assert (code, f"taken over by PID {os.getpid()}" in said) == (79, True)
    assert is_gone(pid)


def test_a_continued_wrapper_does_not_wait_for_its_next_renewal(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """Cleared while it was stopped, under a lease of a day, it notices at once."""
    wrapper = wrap("--stale-after", "86400", "btc-1", "--", "sh", "-c", OBEDIENT)
    wrapper.hear()
    wrapper.stop()
    clear_by_force(lock_dir)
    wrapper.resume()
    assert wrapper.wait()[0] == 79


def test_a_command_that_ended_after_the_lock_was_lost_is_no_success(
    lock_dir: str, wrap: Callable[..., Wrapper]
) -> None:
    """It was not alone at its end: exit 79, and its own exit code is on standard error."""
    wrapper = wrap("btc-1", "--", "sh", "-c", OBEDIENT)
    pid = wrapper.hear()["pid"]
    wrapper.stop()
    assert wrapper.process.stdin is not None
    wrapper.process.stdin.close()
    assert is_gone(pid)
    clear_by_force(lock_dir)
    wrapper.resume()
    code, said = wrapper.wait()
    assert (code, "the command had ended with exit code 5" in said) == (79, True)


def test_a_killed_wrapper_takes_the_command_with_it(lock_dir: str, wrap: Callable[..., Wrapper]) -> None:
    """SIGKILL: the command is gone, and the lock can be had at once."""
    wrapper = wrap("--stale-after", "3600", "btc-1", "--", "sh", "-c", OBEDIENT)
    pid = wrapper.hear()["pid"]
    wrapper.kill()
    assert is_gone(pid)
    with PositionLock("btc-1", lock_dir=lock_dir, timeout=0):
        pass


def test_a_command_whose_wrapper_died_too_early_never_starts() -> None:
    """Before the kernel was asked to watch: whose child it is tells."""
    trampoline = Path(poslock_cli.__file__).with_name("trampoline.py")
    for parent, code, said in ((os.getpid(), 0, b"hi\n"), (os.getppid(), -signal.SIGKILL, b"")):
        command = [sys.executable, "-I", str(trampoline), str(parent), "", "/bin/echo", "echo", "hi"]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stdout) == (code, said)


def test_the_command_gets_our_descriptors_and_signals_as_they_were(lock_dir: str, tmp_path: Path) -> None:
    """What was open or ignored stays so, nothing of the wrapper's is added."""
    look = ["sh", "-c", "cat <&9; readlink /proc/$$/fd/*; grep -E 'Sig(Blk|Ign)' /proc/self/status"]
    (tmp_path / "nine").write_text("nine\n")
    shell = 'trap "" HUP INT; exec 9<"$0"; exec "$@"'
    outputs = []
    for prefix in ([], [*POSLOCK, lock_dir, "run", "btc-1", "--"]):
        command = ["sh", "-c", shell, str(tmp_path / "nine"), *prefix, *look]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE, check=True, text=True
        )
        # Of pipes the numbers differ; 32 and 33, which glibc keeps for itself, its posix_spawn leaves ignored.
        outputs.append(
            [line.replace("00000001800", "00000000000") for line in done.stdout.splitlines() if "pipe:" not in line]
        )
    assert outputs[0][0] == "nine"
    assert outputs[1] == outputs[0]


class Terminal:
    """A session of its own on a new terminal, with a shell-like parent that continues a stopped job once."""

    SHELL = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
        "job = subprocess.Popen(sys.argv[1:], process_group=0,\n"
        "                       preexec_fn=lambda: signal.signal(signal.SIGTTOU, signal.SIG_DFL))\n"
        "os.tcsetpgrp(0, job.pid)\n"
        "while True:\n"
        "    _, status = os.waitpid(job.pid, os.WUNTRACED)\n"
        "    if not os.WIFSTOPPED(status):\n"
        "        print('ended', os.waitstatus_to_exitcode(status), os.tcgetpgrp(0) == job.pid, flush=True)\n"
        "        break\n"
        "    os.tcsetpgrp(0, os.getpgrp())\n"
        "    print('stopped', os.WSTOPSIG(status), flush=True)\n"
        "    input()\n"
        "    os.tcsetpgrp(0, job.pid)\n"
        "    os.killpg(job.pid, signal.SIGCONT)\n"
    )

    def __init__(self, *command: str) -> None:
        self.pid, self._descriptor = pty.fork()
        if not self.pid:
            os.execv(sys.executable, [sys.executable, "-c", self.SHELL, *command])  # noqa: S606  # as above
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def see(self, text: str) -> str:
        """Wait for a text; everything up to its line's end."""
        deadline = time.monotonic() + PATIENCE
        while text not in self._seen or "\n" not in self._seen.partition(text)[2]:
            assert select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))[0], self._seen
            self._seen += os.read(self._descriptor, 65536).decode()
        before, _, after = self._seen.partition(text)
        rest, _, self._seen = after.partition("\n")
        return before + text + rest.rstrip()

    def end(self) -> None:
        os.close(self._descriptor)
        # Everything of its session: what was stopped there would stay.
        for pid in (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()):
            with suppress(ProcessLookupError):
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*command: str) -> Terminal:
        started.append(Terminal(*command))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_an_interactive_command_has_the_terminal(lock_dir: str, terminal: Callable[..., Terminal]) -> None:
    """It reads what is typed, Ctrl-C reaches it, and the terminal is given back."""
    script = 'trap "echo interrupted; exit 4" INT; echo re""ady; read word; echo "got $word"; read word'
    screen = terminal(*POSLOCK, lock_dir, "run", "btc-1", "--", "sh", "-c", script)
    screen.see("ready")
    screen.type("hello\n")
    screen.see("got hello")
    screen.type("\x03")
    screen.see("interrupted")
    assert screen.see("ended").endswith("ended 4 True")


def test_a_job_is_stopped_and_continued_as_a_whole(lock_dir: str, terminal: Callable[..., Terminal]) -> None:
    """Ctrl-Z stops the wrapper too; fg continues both; the lock was held all the while."""
    script = 'echo re""ady; read word; echo "got $word"'
    screen = terminal(*POSLOCK, lock_dir, "run", "btc-1", "--", "sh", "-c", script)
    screen.see("ready")
    screen.type("\x1a")
    assert screen.see("stopped").endswith(f"stopped {signal.SIGTSTP}")
    assert state(lock_dir) == "held"
    screen.type("fg\n")
    screen.type("hello\n")
    screen.see("got hello")
    assert screen.see("ended").endswith("ended 0 True")


def test_a_ctrl_z_typed_while_the_terminal_is_lent_is_not_lost(
    lock_dir: str, tmp_path: Path, terminal: Callable[..., Terminal]
) -> None:
    """It finds the command already stopped, for wanting the terminal; the job stops, and goes on at fg."""
    os.mkfifo(tmp_path / "gate")
    script = 'echo re""ady $$; read word < "$0"; read word; echo "got $word"'
    screen = terminal(*POSLOCK, lock_dir, "run", "btc-1", "--", "sh", "-c", script, str(tmp_path / "gate"))
    pid = int(screen.see("ready").split()[-1])
    os.kill(lock_status(open_directory(lock_dir), "btc-1").holders[0].pid, signal.SIGSTOP)
    screen.see(f"stopped {signal.SIGSTOP:d}")
    (tmp_path / "gate").write_text("\n")
    assert is_in(pid, "T")
    os.kill(pid, signal.SIGTSTP)
    screen.type("fg\n")
    screen.see(f"stopped {signal.SIGTSTP:d}")
    screen.type("fg\n")
    screen.type("hello\n")
    screen.see("got hello")
    assert screen.see("ended").endswith("ended 0 True")


def test_ctrl_z_reaches_a_command_that_never_reads(lock_dir: str, terminal: Callable[..., Terminal]) -> None:
    """It is stopped too, and not continued if the lock was lost meanwhile."""
    # exec: a shell that is stopped between vfork and exec does not count as stopped, with poslock or without.
    screen = terminal(*POSLOCK, lock_dir, "run", "btc-1", "--", "sh", "-c", "echo re''ady $$; exec sleep 600")
    pid = int(screen.see("ready").split()[-1])
    screen.type("\x1a")
    screen.see("stopped")
    assert is_in(pid, "T")
    clear_by_force(lock_dir)
    screen.type("fg\n")
    screen.see("the command was stopped")
    assert screen.see("ended").endswith("ended 79 True")


def test_running_nothing_is_a_usage_error(lock_dir: str) -> None:
    """As is a lease that is no number."""
    assert run(lock_dir, "btc-1").returncode == 2
    assert run(lock_dir, "--stale-after", "nan", "btc-1", "--", "true").returncode == 2
