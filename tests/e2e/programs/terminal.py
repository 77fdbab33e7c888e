"""Programs at a terminal: an editor, and a shell with its job control."""

import os
import pty
import re
import select
import shutil
import signal
import sys
import termios
import time

UNDER, WORK = os.environ["UNDER"], os.environ["WORK"]


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self):
        self.said = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"PS1": "ready> ", "TERM": "xterm", "HISTFILE": "/dev/null"}
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        self.expect(r"ready> ")

    def type(self, text: str):
        os.write(self.fd, text.encode())

    def expect(self, pattern: str) -> re.Match:
        """Waits for output, and forgets all up to it."""
        end = time.monotonic() + 20
        while not (match := re.search(pattern, self.said)):
            assert time.monotonic() < end, f"waited 20 s for {pattern!r}, found {self.said!r}"
            if select.select([self.fd], [], [], 0.5)[0]:
                self.said += os.read(self.fd, 65536).decode(errors="replace")
        self.said = self.said[match.end() :]
        return match

    def run(self, line: str) -> str:
        """Runs a line to its end. Its exit code."""
        self.type(f"{line}\n")
        self.expect(r"ready> ")
        self.type("echo code=$?\n")
        code = self.expect(r"\ncode=(\d+)").group(1)
        self.expect(r"ready> ")
        return code

    def foreground(self) -> int:
        return os.tcgetpgrp(self.fd)

    def until(self, what: str, condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"waited 20 s for {what}"
            time.sleep(0.02)

    def close(self):
        self.type("exit\n")
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        os.waitpid(self.pid, 0)


def command_of(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().replace("\0", " ")


def vim(terminal: Terminal):
    editor = shutil.which("vim") or shutil.which("vi")
    if not editor:
        print("no vim")
        sys.exit(77)
    before = termios.tcgetattr(terminal.fd)
    terminal.type(f"{UNDER} {editor} -u NONE -i NONE {WORK}/text\n")
    # The alternative screen, and the keypad's own mode.
    terminal.expect(r"\x1b\[\?1049h")
    terminal.expect(r"text")
    terminal.type("ifirst line\rsecond line\x1b")
    terminal.expect(r"second line")
    terminal.type(":wq\r")
    terminal.expect(r"\x1b\[\?1049l")
    terminal.expect(r"ready> ")
    terminal.type("echo code=$?\n")
    assert terminal.expect(r"\ncode=(\d+)").group(1) == "0"
    terminal.expect(r"ready> ")
    with open(f"{WORK}/text") as text:
        assert text.read() == "first line\nsecond line\n"
    assert termios.tcgetattr(terminal.fd) == before, "the terminal is as it was"


def jobs(terminal: Terminal):
    shell = terminal.foreground()
    terminal.type(f"{UNDER} sleep 300\n")
    terminal.until("the program to be in the foreground", lambda: command_of(terminal.foreground()).startswith("sleep 300"))
    terminal.type("\x1a")
    terminal.expect(r"Stopped")
    terminal.expect(r"ready> ")
    assert terminal.foreground() == shell
    terminal.type("fg\n")
    terminal.until("the program to be in the foreground again", lambda: terminal.foreground() != shell)
    assert command_of(terminal.foreground()).startswith("sleep 300")
    terminal.type("\x03")
    terminal.expect(r"ready> ")
    terminal.type("echo code=$?\n")
    assert terminal.expect(r"\ncode=(\d+)").group(1) == str(128 + signal.SIGINT)
    terminal.expect(r"ready> ")
    # In the background; the shell ends it as a job.
    terminal.type(f"{UNDER} sleep 301 &\n")
    terminal.expect(r"\[1\] (\d+)")
    terminal.expect(r"ready> ")
    terminal.type("kill %1; wait\n")
    terminal.expect(r"Terminated")
    terminal.expect(r"ready> ")


def inner_shell(terminal: Terminal):
    """A shell below: what is true of it is true of what it starts."""
    terminal.type(f"PS1='below> ' {UNDER} bash --norc --noprofile --noediting -i\n")
    terminal.expect(r"below> ")
    terminal.type("sleep 302\n")
    terminal.until("the program to be in the foreground", lambda: command_of(terminal.foreground()).startswith("sleep 302"))
    terminal.type("\x1a")
    terminal.expect(r"Stopped")
    terminal.expect(r"below> ")
    terminal.type("fg\n")
    terminal.until("the program to be in the foreground again", lambda: command_of(terminal.foreground()).startswith("sleep 302"))
    terminal.type("\x03")
    terminal.expect(r"below> ")
    terminal.type("exit 9\n")
    terminal.expect(r"ready> ")
    terminal.type("echo code=$?\n")
    assert terminal.expect(r"\ncode=(\d+)").group(1) == "9"
    terminal.expect(r"ready> ")


terminal = Terminal()
try:
    vim(terminal)
    jobs(terminal)
    inner_shell(terminal)
finally:
    terminal.close()
