"""Is a file or a directory one that only we, or the group we share it with, can have put there?"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

PLANTED = "poslock did not make it: look at it, and put it elsewhere"


def file_fault(status: os.stat_result, user_id: int, group: int | None, *, names: int = 1) -> str | None:
    """What is wrong with a file of ours, None if nothing is. *group* is whom the directory is shared with, if any."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_nlink > names:
        return "has a second name (hard link)"
    if status.st_uid != user_id and (group is None or status.st_gid != group):
        return f"belongs to user {status.st_uid}"
    return None


def directory_fault(status: os.stat_result, user_id: int, own_group: int, group: int | None) -> str | None:
    """What is wrong with a directory of ours, None if nothing is. *group* is whom it is shared with, if any."""
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    if status.st_uid != user_id and group is None:
        return f"belongs to user {status.st_uid}"
    if status.st_mode & stat.S_IWOTH:
        return "is writable by everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in {own_group, group}:
        return f"is writable by group {status.st_gid}, and not shared on purpose (setgid)"
    return None


def sharing_group(status: os.stat_result, groups: frozenset[int]) -> int | None:
    """The group with which the owner of a directory shares it on purpose, if this process belongs to it."""
    meant = status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IWGRP and status.st_gid in groups
    return status.st_gid if meant else None
