"""What a process that runs other people's SQL may use of the machine, whatever the SQL gets it to do.

Here: limits of the operating system, set once by the process on itself. Not here: DuckDB's own lock-down
(`warehouse.gateway_process`), nor which statements are answered (`warehouse.select_only`). Only the standard library,
so that it can run before anything heavy is imported.
"""

from __future__ import annotations

import ctypes
import os
import resource

ADDRESS_SPACE = 4 << 30
"""Bytes. DuckDB's own limit does not cover list and string buffers: `len(range(2000000000))` took 21.7 GB. An idle
worker takes 0.6 GB of addresses, so a query may take the 1 GB that DuckDB is given, and buffers beside it."""
OPEN_FILES = 64
"""A worker holds the tier's file, its pipes and the interpreter's own: fewer than 20."""
CPU_CORES = 2
"""DuckDB's threads; a second of waiting can cost this many seconds of processor."""
CPU_GRACE = 30
"""Seconds of processor beyond the time limit: starting, planning, and DuckDB's reaction to an interrupt."""

NO_NEW_PRIVILEGES, DUMPABLE = 38, 4
"""`PR_SET_NO_NEW_PRIVS` and `PR_SET_DUMPABLE` of prctl(2)."""
NEW_USERS, NEW_NETWORK = 0x10000000, 0x40000000
"""`CLONE_NEWUSER` and `CLONE_NEWNET` of unshare(2)."""


def confine(*, address_space: int = ADDRESS_SPACE) -> bool:
    """Give up what answering a query never needs; cannot be taken back by the process.

    - memory beyond `address_space` bytes is refused (RLIMIT_AS);
    - no file can be written (RLIMIT_FSIZE 0; pipes and sockets are no files) and no core is dumped;
    - few files can be open; no program gains privileges, and no other process of this user may read its memory;
    - no network at all, where the system lets an ordinary user leave it.

    The number of processes is not limited: RLIMIT_NPROC counts all threads of the user, other workers' included, and
    is not applied to root; what is started inherits everything here.

    Call it once, before DuckDB is opened. For the network it must be called before any thread exists.

    Returns
    -------
    Whether the process is cut off from the network. It is not on systems that forbid user namespaces; DuckDB's
    lock-down is then the only wall there.
    """
    is_offline = _leave_network()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if (libc := _libc()) is not None:
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.prctl(DUMPABLE, 0, 0, 0, 0)
    return is_offline


def allow_processor(seconds: float) -> None:
    """Let the process use the processor for one more query of `seconds`; beyond it the system ends the process.

    This stands behind the interrupt at the time limit, for a query that no longer listens. A process that answers many
    queries calls it before each.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used + seconds * CPU_CORES + CPU_GRACE) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _libc() -> ctypes.CDLL | None:
    """The C library, on Linux; elsewhere the calls made here do not exist."""
    return ctypes.CDLL(None, use_errno=True) if os.uname().sysname == "Linux" else None


def _leave_network() -> bool:
    libc = _libc()
    # Root may leave the network as it is; anybody else needs a user namespace of their own for it.
    return libc is not None and (libc.unshare(NEW_NETWORK) == 0 or libc.unshare(NEW_USERS | NEW_NETWORK) == 0)
