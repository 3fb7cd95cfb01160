"""A lab, and the programs in it. What they print as JSON lines can be waited for."""

import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from pathlib import Path

LAB = Path(__file__).resolve().parents[1] / "lab"

# Seconds that a program has to come up, on a machine that may be busy.
START = 30


def lab(*words):
    done = subprocess.run([LAB, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"scripts/lab {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


class Scene:
    """One lab and the programs in it; all of them end with it."""

    serial = iter(range(1_000_000))
    counting = threading.Lock()

    def __init__(self, viewer, caster, delay):
        with Scene.counting:
            self.name = f"b{os.getpid()}n{next(Scene.serial)}"
        self.programs = []
        line = ["--delay", f"{delay:g}"] if delay else []
        hosts = ["server:public", f"viewer:{viewer}", f"caster:{caster}"]
        lab("up", "--name", self.name, "--owner", str(os.getpid()), *line, *hosts)
        self.server = lab("addr", "--name", self.name, "server")

    def start(self, host, *command):
        program = Program([LAB, "exec", "--name", self.name, host, *map(str, command)])
        self.programs.append(program)
        return program

    def wait_for_port(self, program, port):
        knock = [LAB, "exec", "--name", self.name, "server", "bash", "-c", f"exec 3<>/dev/tcp/{self.server}/{port}"]
        end = time.monotonic() + START
        while subprocess.run(knock, stderr=subprocess.DEVNULL).returncode:
            if program.child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"port {port} stays closed {program.report()}")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in self.programs:
            program.kill()
        lab("down", "--name", self.name)


class Program:
    """A running program that writes JSON lines."""

    def __init__(self, command):
        self.began = time.monotonic()
        self.talk = tempfile.TemporaryFile("w+")
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": self.talk}
        self.child = subprocess.Popen(command, text=True, **pipes)
        self.events = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for text in self.child.stdout:
            try:
                event = json.loads(text)
            except ValueError:
                continue
            event["wall_ms"] = (time.monotonic() - self.began) * 1000
            self.events.put(event)
        self.events.put(None)

    def event(self, seconds, fits):
        """The next event that `fits`; `None` if it does not come in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                event = self.events.get(timeout=left)
            except queue.Empty:
                break
            if event is None:
                break
            self.seen.append(event)
            if fits(event):
                return event
        return None

    def must(self, *names):
        """The last of these events; each has to come."""
        for name in names:
            found = next((event for event in self.seen if event["event"] == name), None)
            found = found or self.event(START, lambda event: event["event"] == name)
            if not found:
                raise RuntimeError(f"no '{name}' {self.report()}")
        return found

    def report(self):
        self.talk.seek(0)
        return f"from {' '.join(map(str, self.child.args))}: {self.seen}\n{self.talk.read()}"

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.talk.close()
