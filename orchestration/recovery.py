"""What every start does before anything else: take the home, and clear up after starts that died.

Here: the lock, orphaned processes, runs that no process works on, leaked pool slots, half-made files. Not here: what
the start wanted to do. A killed run leaves all of these behind, and each would make the next one wait for ever.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil

from warehouse.errors import HomeError
from warehouse.home import Home

log = logging.getLogger(__name__)

MARK = "RANVIER_PROCESS_OF"
"""Environment variable of every process of a start, `<home>:<pid of the start>`; children inherit it."""
PATIENCE_SECONDS = 2.0
"""How long an orphan may take to end by itself before it is killed."""
OLD_SECONDS = 3600.0
"""Age at which a draft that anybody may write is taken for left behind."""
DEAD = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Recovered:
    """What a start found of earlier ones and put right."""

    processes_ended: int = 0
    runs_failed: int = 0
    slots_freed: int = 0
    drafts_removed: int = 0


@contextmanager
def home_lock(home: Home) -> Iterator[None]:
    """Have the home to oneself, and mark this process and its children as working on it.

    The lock ends with the process, however it ends. Where only orphans of a dead start still hold it, they are ended.

    Raises
    ------
    HomeError
        Another start is at work; the text names its process.
    """
    home.network()
    home.dagster.mkdir(parents=True, exist_ok=True)
    path = home.dagster / "lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    before = os.environ.get(MARK)
    try:
        if not _try(handle):
            end_orphans(home)
            if not _try(handle):
                raise HomeError(
                    f"{home.root} is in use by process {_holder(path)}; wait for it, or end it with: "
                    f"kill {_holder(path)}"
                )
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        os.environ[MARK] = f"{home.root}:{os.getpid()}"
        yield
    finally:
        if before is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = before
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    return path.read_text(encoding="ascii").strip() or "(unknown)"


def recover(home: Home, instance: dg.DagsterInstance) -> Recovered:
    """Clear up after starts that died. Call it with the home's lock held, before the first run."""
    result = Recovered(
        processes_ended=end_orphans(home),
        runs_failed=fail_dead_runs(instance),
        slots_freed=free_slots(instance),
        drafts_removed=remove_drafts(home),
    )
    if result != Recovered():
        log.info(
            "an earlier start of this home did not end well: %d processes ended, %d runs marked failed, "
            "%d pool slots freed, %d half-made files removed",
            result.processes_ended,
            result.runs_failed,
            result.slots_freed,
            result.drafts_removed,
        )
    return result


def orphans(home: Home) -> list[psutil.Process]:
    """Processes that a start on this home left behind when it died."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in own:
            continue
        with suppress(psutil.Error):  # ended meanwhile, or of another user
            root, _, pid = process.environ().get(MARK, "").rpartition(":")
            if root == str(home.root) and not _is_alive(int(pid), process.create_time()):
                found.append(process)
    return found


def _is_alive(pid: int, child_started: float) -> bool:
    """Whether the start that a process belongs to still is. A later process may have been given its number."""
    try:
        start = psutil.Process(pid)
        return bool(start.status() != psutil.STATUS_ZOMBIE and start.create_time() <= child_started + 1)
    except psutil.Error:
        return False


def end_orphans(home: Home) -> int:
    """End what dead starts left running: steps, dbt, Dask workers. Returns how many processes there were."""
    ended = 0
    for _ in range(3):  # a worker's keeper may start another one before it is ended itself
        found = orphans(home)
        if not found:
            break
        ended += len(found)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(found, timeout=PATIENCE_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
    return ended


def fail_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs failed that no process works on: whoever holds the lock has started none yet."""
    dead = instance.get_runs(dg.RunsFilter(statuses=DEAD))
    for run in dead:
        instance.report_run_failed(run, "The process of this run died. What it had finished is kept; run it again.")
    return len(dead)


def free_slots(instance: dg.DagsterInstance) -> int:
    """Give back pool slots of runs that died; a later step would wait for them without end."""
    storage = instance.event_log_storage
    held = storage.get_concurrency_run_ids()
    for run_id in held:
        storage.free_concurrency_slots_for_run(run_id)
    return len(held)


def remove_drafts(home: Home) -> int:
    """Remove unfinished builds, work folders, and what was never renamed to its name. Returns how many there were.

    Landing folders are not looked at.
    """
    drafts = list(_drafts(home))
    for draft in drafts:
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
    return len(drafts)


def _drafts(home: Home) -> Iterator[Path]:
    # The first two hold files as sent, or half de-identified: they go although the next receipt would clear them too.
    for folder in (home.cache / "unpacked", home.cache / ".deidentified", home.cache / "dask"):
        yield from _entries(folder)
    for folder in (home.releases, home.lake / "docs"):
        yield from (entry for entry in _entries(folder) if entry.name.startswith("."))
    # Pages and dbt's parse are also made without the home's lock: a living process may be at a young draft.
    yield from (entry for entry in _entries(home.cache / "dbt") if entry.name.startswith(".") and _is_old(entry))
    for root in (home.lake, home.reports, home.outbox):
        for place, folders, names in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                draft = Path(place, name)
                if name.startswith(".") and name.endswith(".tmp") and (root == home.lake or _is_old(draft)):
                    yield draft


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > OLD_SECONDS
    except FileNotFoundError:
        return False
