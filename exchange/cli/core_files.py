"""A process that dies must not leave its memory, with keys and contents in it, as a file."""

from __future__ import annotations

import contextlib
import resource


def switch_off_core_files() -> None:
    """From now on neither this process nor one it starts writes a core file, and none can switch it on again.

    A handler to which the kernel pipes cores (systemd-coredump, apport) keeps nothing of a process with this limit.
    """
    # Refused only where the limit is lower already.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
