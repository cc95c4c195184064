"""What a confined process can no longer do, tried in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

CONFINED = "from warehouse.confinement import *; is_offline = confine(); import os, socket\n"


def confined(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CONFINED + code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_no_file_is_written(tmp_path: Path) -> None:
    target = tmp_path / "out"
    code = (
        "import sys\ntry: os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b'x')\nexcept OSError: print('no')"
    )
    assert confined(code, str(target)).stdout == "no\n"
    assert target.stat().st_size == 0


def test_memory_beyond_the_limit_is_refused() -> None:
    code = "try: bytearray(ADDRESS_SPACE)\nexcept MemoryError: print('no')"
    assert confined(code).stdout == "no\n"


def test_few_files_can_be_open() -> None:
    code = "held = []\ntry:\n    while len(held) < 1000: held.append(os.open('/dev/null', 0))\nexcept OSError: pass\n"
    assert 20 < int(confined(code + "print(len(held))").stdout) < 64


def test_no_privilege_is_gained_and_memory_is_private() -> None:
    code = "print([l.split()[1] for l in open('/proc/thread-self/status') if l.startswith('NoNewPrivs')][0])\n"
    code += "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    assert confined(code).stdout.split() == ["1", "0"]


def test_offline_means_that_nothing_is_reached() -> None:
    """Where the system does not let a process leave the network, it says so; where it does, even localhost is gone."""
    code = (
        "server = socket.socket()\n"
        "server.bind(('127.0.0.1', 0)); server.listen()\n"
        "try: socket.create_connection(server.getsockname(), 2); reached = 'yes'\n"
        "except OSError: reached = 'no'\n"
        "print(is_offline, reached)"
    )
    assert confined(code).stdout.split() in (["True", "no"], ["False", "yes"])


def test_a_query_that_no_longer_listens_is_ended() -> None:
    done = confined("import warehouse.confinement as c; c.CPU_GRACE = 0; c.allow_processor(0.5)\nwhile True: pass")
    assert done.returncode == -signal.SIGXCPU


def test_each_query_gets_its_own_processor_time() -> None:
    code = (
        "import time, resource, warehouse.confinement as c; c.CPU_GRACE = 0\n"
        "for _ in range(3):\n    c.allow_processor(0.5)\n    start = time.process_time()\n"
        "    while time.process_time() - start < 0.8: pass\n"
        "print('alive')"
    )
    assert confined(code).stdout == "alive\n"
