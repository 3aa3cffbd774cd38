"""Files that operating systems and tools create among samples: hidden files, trash, thumbnails, AppleDouble files."""

from __future__ import annotations

NAMES = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recycle",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "lost+found",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    }
)
"""Files and folders that are neither hidden nor samples, in lower case: of macOS, NAS systems, ext4 and Windows."""


def is_system_file(name: str) -> bool:
    """Whether a file, by its name relative to a set of samples, is or lies in something hidden or of the system.

    >>> [is_system_file(name) for name in ("cat/1.png", ".ipynb_checkpoints/1.png", "cat/._1.png", "@eaDir/x/1.png")]
    [False, True, True, True]
    """
    return any(part.startswith(".") or part.lower() in NAMES for part in name.split("/"))
