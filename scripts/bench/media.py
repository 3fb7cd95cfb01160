"""What scripts/bench/{congestion,latency,throughput} have in common: our programs, nginx-rtmp, and examples/rtmp_probe."""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scene import START, Program

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RELEASE = TARGET / "release"
PUNCHCAST, PUNCHCASTD = RELEASE / "punchcast", RELEASE / "punchcastd"
PROBE = RELEASE / "examples" / "rtmp_probe"
# Where scripts/setup unpacks nginx, if the system has none with the module.
UNPACKED = TARGET / "bench-nginx"

PRECEDENCE = -10

# One process, which stays where it was started; everything else is as nginx-rtmp has it by itself.
NGINX = """\
daemon off;
master_process off;
pid {prefix}/pid;
error_log stderr warn;
load_module {module};
events {{ worker_connections 64; }}
rtmp {{
  access_log off;
  server {{
    listen {addr};
    chunk_size {chunk_size};
    application live {{ live on; }}
  }}
}}
"""


def prepare():
    """Installs and builds what is needed, and goes before other programs, as root: a machine's load is not measured."""
    subprocess.run([ROOT / "scripts" / "setup", "stream"], check=True)
    build = ["cargo", "build", "--release", "--quiet", "--workspace", "--bins", "--example", "rtmp_probe"]
    # Set to measure programs that are there already, of another revision perhaps.
    if not os.environ.get("PUNCHCAST_BENCH_AS_BUILT"):
        subprocess.run(build, cwd=ROOT, check=True)
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, PRECEDENCE)


def load():
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def note(text):
    print(text, file=sys.stderr, flush=True)


class Nginx:
    """nginx with nginx-rtmp, from a directory of its own; 4096 is the chunk size that it has by itself."""

    def __init__(self, addr, chunk_size=4096):
        self.prefix = tempfile.TemporaryDirectory(prefix="bench-nginx-")
        system = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
        root = Path("/") if system.exists() and shutil.which("nginx", path="/usr/sbin") else UNPACKED
        module = root / "usr/lib/nginx/modules/ngx_rtmp_module.so"
        config = Path(self.prefix.name) / "nginx.conf"
        config.write_text(NGINX.format(prefix=self.prefix.name, module=module, addr=addr, chunk_size=chunk_size))
        # Before the configuration is read it would write to the system's log.
        self.command = [root / "usr/sbin/nginx", "-e", "stderr", "-p", self.prefix.name, "-c", config]
        self.url = f"rtmp://{addr}/live/probe"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.prefix.cleanup()


def free_addr():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def wait_for_listener(addr, program):
    host, port = addr.rsplit(":", 1)
    wait = f"for i in $(seq {START * 20}); do (exec 3<>/dev/tcp/{host}/{port}) 2>/dev/null && exit; sleep 0.05; done; exit 1"
    if program.child.poll() is not None or subprocess.run(["bash", "-c", wait]).returncode:
        raise RuntimeError(f"nothing listens on {addr} {program.report()}")


def cpu(program):
    """CPU seconds that a program's threads have used so far. Finer than its `stat`, which counts in hundredths."""
    threads = Path(f"/proc/{program.child.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


class Local:
    """Programs on this machine; all of them end with it."""

    def __init__(self):
        self.programs = []

    def start(self, *command):
        program = Program([str(word) for word in command])
        self.programs.append(program)
        return program

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in self.programs:
            program.kill()


def part(values, share):
    """The value that so large a share of them does not exceed."""
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def median(values):
    return statistics.median(values)


def result(values):
    """The last line."""
    print(json.dumps(values))
