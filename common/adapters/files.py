"""Objects in a folder: one file an object, one folder a bucket. For one machine; several processes may share the folder.

A put copies into a file of its own beside the buckets, makes it durable, and renames it into place. While it does, it holds a lock
on that file; so what a killed process left can be told from what a living one is writing, and is removed at the next start.
Keys come from the program itself: one that would leave its bucket is a ValueError. Going through them holds the names of
a folder in memory.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar
from uuid import uuid4

from common.adapters.threads import run_to_end
from common.errors import BlobNotFound, Full, Unavailable
from common.ports import Blob, Bucket

T = TypeVar("T")

ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
CHUNK_BYTES = 64 * 1024
# A folder between the key and the root may vanish under a put because a delete just emptied it; so often in a row it does not.
PLACE_ATTEMPTS = 100
# Room for the largest upload and its result.
LEAST_FREE_BYTES = 32 * 1024 * 1024


class FileBlobStore:
    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / ".incoming"
        # A folder that cannot be used yet is for `check` to report, not a reason to refuse the start.
        with suppress(OSError):
            _remove_leftovers(self._incoming)

    async def put(self, bucket: Bucket, key: str, source: Path, content_type: str) -> None:
        # The content type is the row's; a file has no place for it.
        place = self._place(bucket, key)

        def copy() -> None:
            with self._new_file() as (file, path), source.open("rb") as origin:
                shutil.copyfileobj(origin, file, CHUNK_BYTES)
                file.flush()
                os.fsync(file.fileno())
                self._move(path, place)

        await self._call(copy)

    async def fetch(self, bucket: Bucket, key: str, target: Path) -> None:
        place = self._place(bucket, key)

        def copy() -> None:
            with self._existing(bucket, place) as origin, target.open("wb") as file:
                shutil.copyfileobj(origin, file, CHUNK_BYTES)

        await self._call(copy)

    @asynccontextmanager
    async def open(self, bucket: Bucket, key: str, part: range | None = None) -> AsyncIterator[Blob]:
        place = self._place(bucket, key)
        # A list, because a caller that is cancelled meanwhile gets no answer, yet has to close the file.
        opened: list[BinaryIO] = []

        def begin() -> int:
            opened.append(self._existing(bucket, place))
            if part:
                opened[0].seek(part.start)
            return len(part) if part else os.fstat(opened[0].fileno()).st_size

        try:
            size = await self._call(begin)
            async with aclosing(self._chunks(opened[0], size)) as chunks:
                yield Blob(size_bytes=size, chunks=chunks)
        finally:
            for file in opened:
                file.close()

    async def delete(self, bucket: Bucket, key: str) -> None:
        place = self._place(bucket, key)

        def remove() -> None:
            try:
                place.unlink()
            except ABSENT:
                return
            _sync(place.parent)
            with suppress(OSError):
                for folder in place.relative_to(self._root / bucket).parents[:-1]:
                    (self._root / bucket / folder).rmdir()

        await self._call(remove)

    async def keys(self, bucket: Bucket) -> AsyncGenerator[str, None]:
        root = self._root / bucket
        left = await self._call(lambda: _names(root, ""))
        while left:
            name = left.pop()
            if not name.endswith("/"):
                yield name
                continue
            try:
                left += await self._call(partial(_names, root, name))
            except Unavailable as error:
                # Else a delete has just emptied it.
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise

    def link(self, bucket: Bucket, key: str, content_type: str, disposition: str) -> str | None:
        return None

    async def check(self) -> None:
        def try_out() -> None:
            for bucket in Bucket:
                (self._root / bucket).mkdir(parents=True, exist_ok=True)
            with self._new_file() as (file, _):
                file.write(b"writable")
            free = shutil.disk_usage(self._root).free
            if free < LEAST_FREE_BYTES:
                raise OSError(errno.ENOSPC, f"{free} bytes free")

        await self._call(try_out)

    def _place(self, bucket: Bucket, key: str) -> Path:
        path = PurePosixPath(key)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in key:
            raise ValueError(f"not a key: {key!r}")
        return self._root / bucket / path

    def _existing(self, bucket: Bucket, place: Path) -> BinaryIO:
        try:
            return place.open("rb")
        except ABSENT:
            if (self._root / bucket).is_dir():
                raise BlobNotFound("The object store has no such object.") from None
            # Not mounted, perhaps. No object is lost for that.
            raise

    @contextmanager
    def _new_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A locked file in the same file system as the buckets; gone afterwards, unless it was moved away."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        path = self._incoming / uuid4().hex
        try:
            with path.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def _move(self, path: Path, place: Path) -> None:
        for attempt in range(1, PLACE_ATTEMPTS + 1):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
                break
            except (FileNotFoundError, FileExistsError):
                # The second comes from mkdir, where the folder was there and was gone when it looked again.
                if attempt == PLACE_ATTEMPTS:
                    raise
        # Every folder on the way: one that somebody else has just made may not be durable yet.
        for folder in place.parents:
            _sync(folder)
            if folder == self._root:
                break

    async def _chunks(self, file: BinaryIO, size: int) -> AsyncGenerator[bytes, None]:
        while size:
            chunk = await self._call(partial(file.read, min(CHUNK_BYTES, size)))
            if not chunk:
                raise Unavailable("object store", f"a file ended {size} bytes early")
            size -= len(chunk)
            yield chunk

    async def _call(self, call: Callable[[], T]) -> T:
        """The only place where threads are taken and the system's errors are turned into ours."""
        try:
            return await run_to_end(None, call)
        except OSError as error:
            kind = Full if error.errno in (errno.ENOSPC, errno.EDQUOT) else Unavailable
            raise kind("object store", f"{type(error).__name__}: {error}") from error


def _names(root: Path, folder: str) -> list[str]:
    """Against the order of the keys that they begin; a folder's name ends with a slash."""
    with os.scandir(root / folder) as entries:
        names = [f"{folder}{entry.name}/" if entry.is_dir(follow_symlinks=False) else f"{folder}{entry.name}" for entry in entries]
    return sorted(names, reverse=True)


def _sync(folder: Path) -> None:
    """Makes durable which names the folder holds."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # a delete has just emptied it
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_leftovers(incoming: Path) -> None:
    for path in incoming.iterdir():
        # Locked by its writer, or gone already.
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
