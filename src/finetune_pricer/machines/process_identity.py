"""Which process it is: a number alone is given to another one as soon as the first has ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

_PATIENCE = 10.0  # seconds for `ps`
_MAY_LOOK, _STILL_RUNS = 0x1000, 259  # PROCESS_QUERY_LIMITED_INFORMATION, STILL_ACTIVE


def find_identity(pid: int) -> str | None:
    """Return when a process was started, in the system's own words; None where none of that number runs.

    Two processes that had the same number, one after the other, differ in it. One that has ended and was not
    waited for by its parent counts as ended.
    """
    if sys.platform == "win32":
        return _ask_windows(pid)
    if sys.platform == "linux":
        return _read_proc(pid)
    return _ask_ps(pid)


def _read_proc(pid: int) -> str | None:
    try:
        # The name in parentheses may hold anything, a closing parenthesis too.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    state, threads, started = (fields.split()[at] for at in (0, 17, 19))
    # With threads it is no zombie yet: those still hold its port and its files.
    has_ended = state in "ZX" and int(threads) <= 1
    # Counted in ticks since the machine was started, so a number means little after the next start.
    return None if has_ended else f"{boot} {started}"


def _ask_ps(pid: int) -> str | None:
    asked = ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)]
    answer = subprocess.run(  # noqa: S603  the system's own program, and a number
        asked, capture_output=True, check=False, timeout=_PATIENCE, env={"LC_ALL": "C"}
    )
    state, _, started = answer.stdout.decode("ascii", "replace").strip().partition(" ")
    return None if answer.returncode or not state or state[0] == "Z" else started.strip()


if sys.platform == "win32":

    def _ask_windows(pid: int) -> str | None:
        kernel = ctypes.windll.kernel32
        kernel.OpenProcess.restype = wintypes.HANDLE
        handle = wintypes.HANDLE(kernel.OpenProcess(_MAY_LOOK, False, pid))
        if not handle:
            return None
        try:
            times, code = [wintypes.FILETIME() for _ in range(4)], wintypes.DWORD()
            known = kernel.GetProcessTimes(handle, *map(ctypes.byref, times))
            known = known and kernel.GetExitCodeProcess(handle, ctypes.byref(code))
            if not known or code.value != _STILL_RUNS:
                return None
            return f"{times[0].dwHighDateTime}.{times[0].dwLowDateTime}"
        finally:
            kernel.CloseHandle(handle)
