"""Elements put in the place of others: all of them or none, also if the process is killed in between.

What is new is made in a hidden folder beside its place, so that putting it there is but a renaming. Before the first
one, all of it is safe on the disk, and a journal in that folder says what is about to happen. It is deleted once all is
done, and that is the moment at which the new has replaced the old: a journal that is found later is that of a process
that was killed, and tells how to undo what it had begun. All this happens under one lock for each place.

A journal may come from elsewhere, with a store that somebody made: it is believed only if it is this user's and what
it names lies where this package puts things (:class:`Area`), with no symbolic link on the way. It also tells what each
thing was when it was put there: what somebody has changed since is left alone.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ucs._files.disk import check_writable
from ucs._files.journal import JOURNAL, KEPT, NEW, REPLACED, Journal
from ucs._utils.files import (
    digest_of_bytes,
    digest_of_tree,
    is_own_folder,
    read_plain,
    sync_folder,
    sync_tree,
    write_file,
)
from ucs._utils.lock import wait_for_lock
from ucs._utils.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SUFFIX = r"[a-z0-9_]{8}"  # of tempfile.mkdtemp
_LONGEST_METADATA = 1 << 30


@dataclass(frozen=True)
class Area:
    """A folder in which things are replaced, and what may be replaced there.

    Attributes
    ----------
    parent
        The folder.
    prefix
        Of the names of hidden folders, and of the lock.
    is_place
        Whether a path in ``parent`` is that of something that may be replaced: one name, or two with a slash between.
    is_file
        Whether a path in ``parent`` is that of a small file that may be changed on the way.
    unlist
        Returns what the lists of what there is hold while that changes: path to content, None for no file. It is called
        before something is undone.
    relist
        Called after something was undone with the journal, the files that others have changed since, and the hidden
        folder: lists of what there is are to be made anew.
    """

    parent: Path
    prefix: str
    is_place: Callable[[str], bool]
    is_file: Callable[[str], bool] = field(default=lambda _file: False)
    unlist: Callable[[], dict[str, bytes | None]] = field(default=dict)
    relist: Callable[[Journal, list[str], Path], None] = field(default=lambda _journal, _files, _folder: None)

    @property
    def lock(self) -> Path:
        """File whose lock keeps others from writing there."""
        return self.parent / f"{self.prefix}lock"

    def check(self, path: str) -> Path:
        """Return the full path of something that may be replaced or changed.

        Raises
        ------
        PermissionError
            If it is none, or a folder on the way is a symbolic link or of another kind.
        """
        if not (self.is_place(path) or self.is_file(path)):
            msg = f"{path!r} is nothing that is replaced in {self.parent}."
            raise PermissionError(errno.EPERM, msg)
        folder = (self.parent / path).parent
        if folder != self.parent and os.path.lexists(folder) and not stat.S_ISDIR(folder.lstat().st_mode):
            msg = f"{folder} is a symbolic link or a file: nothing is written through it. Put a real folder there."
            raise PermissionError(errno.EPERM, msg)
        return self.parent / path


@dataclass
class Swap:
    """A hidden folder in an area that is locked.

    Attributes
    ----------
    area
        Where it is.
    folder
        Its path; what is new goes into :attr:`new`.
    committing
        Whether all is in its place, and only the journal remains to be deleted.
    """

    area: Area
    folder: Path
    committing: bool = False

    @property
    def new(self) -> Path:
        """Where what is new is made, under the same paths as in the area."""
        return self.folder / NEW

    @property
    def committed(self) -> bool:
        """Whether the new has replaced the old for good; asked while the folder is there."""
        return self.committing and not (self.folder / JOURNAL).exists()

    def replace(
        self,
        places: Sequence[str],
        *,
        files: Sequence[str] = (),
        before: Callable[[Change], None] | None = None,
        after: Callable[[Change], None] | None = None,
    ) -> None:
        """Put what is new in its place; if anything fails, or the user interrupts, all is as it was.

        Parameters
        ----------
        places
            Paths, in :attr:`new` as in the area; what is there goes into the hidden folder.
        files
            Paths in the area of small files that ``before`` or ``after`` may change or make.
        before, after
            Called before the first and after the last move with what changes these files.
        """
        targets = [self.area.check(place) for place in places]
        journal = Journal(
            list(places),
            [digest_of_tree(self.new / place) for place in places],
            {file: [_digest(self.area.check(file))] for file in files},
        )
        (self.folder / KEPT).mkdir()
        for number, file in enumerate(files):
            if (self.area.parent / file).is_file():
                content = read_plain(self.area.parent / file, at_most=_LONGEST_METADATA)
                write_file(self.folder / KEPT / str(number), content)
        (self.folder / REPLACED).mkdir()
        sync_tree(self.folder)
        change = Change(self.area, self.folder, journal)
        journal.write(self.folder)
        sync_folder(self.area.parent)
        try:
            if before is not None:
                before(change)
            for number, (place, target) in enumerate(zip(places, targets, strict=True)):
                if os.path.lexists(target):
                    _move(target, self.folder / REPLACED / str(number))
                _move(self.new / place, target)
            if after is not None:
                after(change)
            for folder in {self.area.parent, *(target.parent for target in targets)}:
                sync_folder(folder)
            sync_folder(self.folder / REPLACED)
        except BaseException:  # Ctrl-C too
            undo(self.area, self.folder)
            raise
        self.committing = True
        (self.folder / JOURNAL).unlink()
        sync_folder(self.folder)


@dataclass(frozen=True)
class Change:
    """Changes small files so that it can be undone."""

    area: Area
    folder: Path
    journal: Journal

    def write(self, file: str, content: bytes | None) -> None:
        """Write a file that the journal names, or delete it (None)."""
        path = self.area.check(file)
        states = self.journal.files[file]
        now = None if content is None else digest_of_bytes(content)
        if states[-1] != now:
            states.append(now)
            self.journal.write(self.folder)  # first: it must know what is there if the process is killed thereafter
        _write_or_delete(path, content, self.folder)


@contextmanager
def swapping(area: Area, committed: Callable[[], None] = lambda: None) -> Iterator[Swap]:
    """Lock an area, undo what killed processes had begun there, and make a hidden folder, which goes at the end.

    ``committed`` is called before that if the new has replaced the old, also if it was interrupted thereafter.

    Raises
    ------
    PermissionError
        If nothing can be made there.
    """
    with locked(area):
        swap = Swap(area, Path(tempfile.mkdtemp(prefix=area.prefix, dir=area.parent)))
        try:
            yield swap
        finally:
            if swap.committed:
                committed()
            else:
                undo(area, swap.folder)
            shutil.rmtree(swap.folder, ignore_errors=True)


@contextmanager
def locked(area: Area) -> Iterator[None]:
    """Keep others from writing to an area, and undo what killed processes had begun there.

    Raises
    ------
    PermissionError
        If it cannot be written to.
    """
    check_writable(area.parent)
    lock = wait_for_lock(area.lock, str(area.parent))
    try:
        _clean(area)
        yield
    finally:
        lock.release()


def clean(area: Area) -> None:
    """Undo and delete what processes left that were killed.

    Raises
    ------
    PermissionError
        If nothing can be made there.
    """
    with locked(area):
        pass


def _clean(area: Area) -> None:
    """Do what :func:`clean` does, under the lock: whoever has made a folder that is found now is dead."""
    for folder in sorted(area.parent.iterdir()):
        if not re.fullmatch(re.escape(area.prefix) + _SUFFIX, folder.name):
            continue
        if not is_own_folder(folder):
            logger.warning("%s is a link, or of another user: it is left alone. Its owner may delete it.", folder)
            continue
        try:
            journal = _believed(area, folder)
        except (FileNotFoundError, PermissionError, ValueError) as error:
            logger.warning("%s is left alone, as it is not what a killed run leaves (%s). Delete it.", folder, error)
            continue
        if journal is not None:
            _undo(area, folder, journal)
            logger.warning("A process was killed while it wrote to %s; what it had begun is undone.", area.parent)
        shutil.rmtree(folder, ignore_errors=True)


def undo(area: Area, folder: Path) -> None:
    """Undo what the journal of a hidden folder tells of, if there is one.

    It may be interrupted and begun again at any moment. What others have changed since is left alone.

    Raises
    ------
    PermissionError, ValueError
        If the journal is not one that this package has written for this area and user.
    """
    journal = _believed(area, folder)
    if journal is not None:
        _undo(area, folder, journal)


def _believed(area: Area, folder: Path) -> Journal | None:
    """Return the journal of a hidden folder, None if there is none; for errors see :func:`undo`."""
    if not os.path.lexists(folder / JOURNAL):
        return None
    journal = Journal.read(folder)
    for place in journal.places:
        area.check(place)
    for part in {folder / KEPT, folder / REPLACED, *((folder / NEW / place).parent for place in journal.places)}:
        if not (is_own_folder(part) and is_own_folder(folder / NEW)):
            msg = f"{part} is no folder of this user's"
            raise PermissionError(errno.EPERM, msg)
    for number, (file, states) in enumerate(journal.files.items()):
        _digest(area.check(file))  # it must be a plain file
        if states[0] is not None and digest_of_bytes(_kept(folder, number)) != states[0]:
            msg = f"{folder / KEPT / str(number)} is not what was there before"
            raise ValueError(msg)
    return journal


def _undo(area: Area, folder: Path, journal: Journal) -> None:
    targets = [area.parent / place for place in journal.places]
    # Lists go first, if they are those that the killed process wrote: they would name what is being moved.
    for file, content in area.unlist().items():
        now, then = _digest(area.parent / file), None if content is None else digest_of_bytes(content)
        states = journal.files.get(file, [])
        if then in states and now in states[states.index(then) + 1 :]:
            _write_or_delete(area.parent / file, content, folder)
    for number in reversed(range(len(targets))):
        _move_back(targets[number], folder, journal, number)
    changed = []
    for number, (file, states) in enumerate(journal.files.items()):
        path = area.parent / file
        now = _digest(path)
        if now == states[0]:
            continue
        if now not in states:
            changed.append(file)
        else:
            _write_or_delete(path, None if states[0] is None else _kept(folder, number), folder)
    area.relist(journal, changed, folder)
    for parent in {target.parent for target in targets}:
        if parent.is_dir():
            sync_folder(parent)
    (folder / JOURNAL).unlink()


def _write_or_delete(path: Path, content: bytes | None, folder: Path) -> None:
    """Write a file by way of a hidden folder, or delete it (None)."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(exist_ok=True)
        write_file(path, content, by_way_of=folder)


def _kept(folder: Path, number: int) -> bytes:
    return read_plain(folder / KEPT / str(number), at_most=_LONGEST_METADATA, own=True)


def _move_back(target: Path, folder: Path, journal: Journal, number: int) -> None:
    new, old = folder / NEW / journal.places[number], folder / REPLACED / str(number)
    there = os.path.lexists(target)
    if there and not os.path.lexists(new):
        if target.is_symlink() or digest_of_tree(target) != journal.digests[number]:
            logger.warning("%s was changed after a process had been killed that wrote it: it stays as it is.", target)
            return
        target.rename(new)
        there = False
    if os.path.lexists(old):
        if there:
            logger.warning("%s was written after a process had been killed that replaced it: it stays.", target)
            return
        target.parent.mkdir(exist_ok=True)
        old.rename(target)


def _digest(path: Path) -> str | None:
    """Return the digest of a small file; None if there is none."""
    try:
        return digest_of_bytes(read_plain(path, at_most=_LONGEST_METADATA))
    except FileNotFoundError:
        return None


def _move(source: Path, target: Path) -> None:
    source.rename(target)
