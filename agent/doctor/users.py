"""The user who would run the agent, and what that user may open."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

import msgspec

from agent.errors import GatepostError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SERVICE_USER = "gatepost"
"""The user of the systemd unit."""


class User(msgspec.Struct, frozen=True):
    """Who would run the agent.

    Attributes:
        name: The login name.
        uid: The user's number.
        groups: The numbers of all groups that a new session has.
        home: The home folder.
        lacks: The names of groups that a new session would have, but this one has not.
    """

    name: str
    uid: int
    groups: frozenset[int]
    home: str
    lacks: tuple[str, ...] = ()

    def joined(self, groups: Iterable[str]) -> User:
        """Return the user with further groups, as the service may give them; those that do not exist are left out."""
        known = [each.gr_gid for each in grp.getgrall() if each.gr_name in set(groups)]
        return msgspec.structs.replace(self, groups=self.groups.union(known))

    def may(self, file: Path, *, write: bool = False) -> bool:
        """Whether the user may open a file, by its owner, group and mode; root may open any.

        Raises:
            OSError: It is not there, or cannot be looked at.
        """
        found = file.stat()
        if self.uid == 0:
            return True
        if self.uid == os.geteuid() and os.access(file, os.R_OK | (os.W_OK if write else 0)):
            return True  # an access control list may say so
        wanted = stat.S_IROTH | (stat.S_IWOTH if write else 0)
        if found.st_uid == self.uid:
            wanted <<= 6
        elif found.st_gid in self.groups:
            wanted <<= 3
        return found.st_mode & wanted == wanted

    def may_use_folder(self, folder: Path) -> bool:
        """Whether the user may make files in a folder.

        Raises:
            OSError: It is not there, or cannot be looked at.
        """
        found = folder.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return self.uid == 0 or (found.st_mode >> shift) & 0o3 == 0o3


def find(name: str | None) -> User:
    """Return a user by name; without one, who we are, or for root the service's user where there is one.

    Raises:
        GatepostError: There is no such user.
    """
    if name is None and os.geteuid() == 0 and _is_known(SERVICE_USER):
        name = SERVICE_USER
    if name is None:
        return of(os.geteuid())
    if not _is_known(name):
        raise GatepostError(
            f"there is no user {name!r}; name one that is in /etc/passwd, or leave out --user"
        )
    return of(pwd.getpwnam(name).pw_uid)


def of(number: int) -> User:
    """Return a user by number."""
    try:
        entry = pwd.getpwuid(number)
    except KeyError:  # as in a container
        return User(str(number), number, frozenset(os.getgroups()), "/")
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    lacks: tuple[str, ...] = ()
    if number == os.geteuid() and number != 0:
        ours = {*os.getgroups(), os.getegid()}
        lacks = tuple(sorted(group_name(group) for group in groups - ours))
    return User(entry.pw_name, number, groups, entry.pw_dir, lacks)


def own_name() -> str:
    """Return our own login name, or our number where we have none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def group_name(number: int) -> str:
    """Return the name of a group, or its number where it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _is_known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def join(user: User, file: Path, usual: str) -> str:
    """Say how a user gets at a file that others may open.

    Args:
        user: Who.
        file: The file, which is there.
        usual: The group that such files usually belong to.
    """
    group = group_name(file.stat().st_gid)
    if group == "root":  # nobody should join it
        group = usual
    if not group:
        return f"let {user.name} read it: sudo chmod o+r {file}"
    return f"sudo usermod -aG {group} {user.name}, then start the agent again (or log out and in)"
