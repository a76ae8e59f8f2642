"""Processes that share their imports: each is forked from one that has imported the project.

So a process begins in an instant and not in seconds. It has an environment, output, signals and an exit
status of its own. What it cannot show is how a command begins, which modules it imports and what it does
before, and how Python ends once all is done.
"""

import gc
import os
import pickle
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from typing import NoReturn

from tests.support.commands import ROOT, Outcome

Work = Callable[[], object]
SERVER = """
import matplotlib.figure, pytest, scipy.optimize
import torch._dynamo  # by optimisers
from tests.support.forks import serve
serve()
"""
SECONDS = 100.0  # in which a process must end


def serve() -> NoReturn:
    """Fork a process for all work that comes, and end with the process from which it comes."""
    gc.freeze()  # what is shared is looked through, and so copied, by no process
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError):
        while True:
            content = connection.recv_bytes()
            pipes = [recv_handle(connection) for _ in range(3)]
            if os.fork() == 0:
                connection.close()
                _watch(content, *pipes)
            for pipe in pipes:
                os.close(pipe)
            os.waitpid(-1, os.WNOHANG)
    os._exit(0)


def _watch(content: bytes, stdout: int, stderr: int, status: int) -> NoReturn:
    """Fork the process that does the work, and tell its number and its exit status."""
    number = os.fork()
    if number == 0:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for pipe in (stdout, stderr, status):
            os.close(pipe)
        _work(content)
    os.close(stdout)
    os.close(stderr)
    os.write(status, f"{number}\n".encode())
    end = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    os.write(status, str(end).encode())
    os._exit(0)


def _work(content: bytes) -> NoReturn:
    """Do the work, and end as a program does, but that Python is not taken down: that takes a second."""
    status = 0
    try:
        work, environment = pickle.loads(content)
        os.environ.clear()
        os.environ.update(environment)
        work()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@cache
def _server() -> tuple[Connection, subprocess.Popen]:
    """The process that forks, which ends with this one."""
    here, there = Pipe()
    command = [sys.executable, "-c", SERVER, str(there.fileno())]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=threads, pass_fds=[there.fileno()], **quiet)
    there.close()
    return here, process


class Forked:
    """A process that does some work, in the root of the project; used as `subprocess.Popen` is.

    work: a function that can be pickled
    environment: variables beside those of this process
    stdout, stderr: what it writes
    """

    def __init__(self, work: Work, environment: Mapping[str, str] | None = None) -> None:
        connection, _ = _server()
        connection.send_bytes(pickle.dumps((work, {**os.environ, **(environment or {})})))
        files = []
        for _ in range(3):
            reader, writer = os.pipe()
            send_handle(connection, writer, None)
            os.close(writer)
            files.append(open(reader))
        self.stdout, self.stderr, self._status = files
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self, seconds: float = 0.0) -> int | None:
        """The exit status, or minus the number of a signal; None where it goes on after so many seconds."""
        if self.returncode is None and wait([self._status], seconds):
            self.returncode = int(self._status.read())
        return self.returncode

    def wait(self, timeout: float = SECONDS) -> int:
        if self.poll(timeout) is None:
            raise TimeoutError(f"the process has not ended in {timeout} seconds")
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ends now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def outcome(self, timeout: float = SECONDS) -> Outcome:
        """Its exit status, and what it still writes until it ends; one that does not is killed."""
        with ThreadPoolExecutor(2) as readers:
            texts = [readers.submit(file.read) for file in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except TimeoutError:
                self.kill()
                raise
        return Outcome(self.returncode, *(text.result().splitlines() for text in texts))

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what has not ended."""
        self.kill()
        self.wait()
        for file in (self.stdout, self.stderr, self._status):
            file.close()


def _run_script(argv: list[str]) -> None:
    if argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        exec(argv[1], {"__name__": "__main__"})
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")


def script(*argv: object) -> Work:
    """The work of `python argv...`: of a script of the project, or of `-c` and its code."""
    return partial(_run_script, [str(word) for word in argv])


def end_of(work: Work) -> Outcome:
    """Do some work, to its end, in a process of its own."""
    with Forked(work) as process:
        return process.outcome()


def run_forked(*argv: object) -> Outcome:
    """Run `python argv...` to its end."""
    return end_of(script(*argv))


def kill_after(seconds: float, *argv: object) -> int:
    """The exit status of `python argv...`: -9 where it had to be killed after so many seconds."""
    with Forked(script(*argv)) as process:
        process.poll(seconds)
        process.kill()
        return process.wait()
