"""How much memory a process needed, for choosing an instance.

It is the kernel's own count; getrusage() would report the parent's where that was larger.
"""

from __future__ import annotations

from pathlib import Path


def peak_mib() -> float | None:
    """Peak resident memory of this process in MiB; None where the system has no /proc."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    return round(int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024, 1)
