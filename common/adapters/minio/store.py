"""Objects in MinIO, or any store that speaks S3.

The SDK blocks, so its calls run in threads of their own, a bounded number of them. The time limit is for silence: a caller waits
half of it for a free thread and half for the store to connect, to answer, and to send each piece. A transfer that makes progress
may take longer. Nothing is tried twice here; that is for those who know what a repetition is worth.

Memory stays small whatever the size of an object. Buckets are made when a put misses one; where the operator has made them, no
right to make buckets is needed. A read that misses its bucket found the wrong store, or half of one: Unavailable, and no object is
lost for that.
"""

import asyncio
import base64
import hashlib
import string
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.error import MinioException, S3Error
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from common.adapters.threads import run_to_end
from common.errors import BlobNotFound, Unavailable, WrongConfiguration
from common.ports import LINK_SECONDS, Blob, Bucket
from common.tls import trusting

T = TypeVar("T")

CHUNK_BYTES = 64 * 1024
# Of a file, with one system call; so much of it is in memory.
SENT_BYTES = 256 * 1024
# Keys in one answer: as many as the store gives at a time.
LISTED = 1000
NO_OBJECT = "NoSuchKey"
NO_BUCKET = "NoSuchBucket"
MADE_MEANWHILE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
# What the SDK lets out when the store does not answer, or answers with what is no S3.
FAILURES = (MinioException, HTTPError, OSError, ParseError, UnicodeDecodeError)


class MinioBlobStore:
    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        region: str,
        timeout_seconds: float,
        concurrency: int = 16,
        public_endpoint: str | None = None,
        ca_file: Path | None = None,
    ) -> None:
        """`endpoint`: HOST:PORT, or with http:// or https:// before it; `public_endpoint`: the same as clients reach it, for links.
        `concurrency`: calls at once. `ca_file`: see common/tls.py. Raises WrongConfiguration."""
        self._patience = timeout_seconds / 2
        self._free = asyncio.Semaphore(concurrency)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="object-store")
        # As many kept connections as threads. Streams being read hold more than that, which are then closed instead of kept.
        self._http = PoolManager(
            maxsize=concurrency,
            timeout=Timeout(total=self._patience),
            retries=False,
            blocksize=SENT_BYTES,
            ssl_context=trusting(ca_file) if endpoint.startswith("https://") else None,
        )

        def client(variable: str, url: str) -> Minio:
            scheme, _, address = url.rpartition("://")
            try:
                return Minio(address, access_key, secret_key, secure=scheme == "https", region=region, http_client=self._http)
            except ValueError as error:
                raise WrongConfiguration(variable, str(error)) from None

        self._client = client("MINIO_ENDPOINT", endpoint)
        # Signs only: with a region it asks nobody.
        self._public = client("MINIO_PUBLIC_ENDPOINT", public_endpoint) if public_endpoint else None

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._http.clear()

    async def put(self, bucket: Bucket, key: str, source: Path, content_type: str) -> None:
        def send() -> None:
            # The SDK's own put would hold the object in memory. Never in parts: an object appears with one call, and no half-sent
            # parts are left behind. The store compares the digest before it keeps anything.
            url = self._client.presigned_put_object(bucket, key, timedelta(seconds=LINK_SECONDS))
            with source.open("rb") as file:
                headers = {
                    "Content-Length": str(source.stat().st_size),
                    "Content-MD5": base64.b64encode(hashlib.file_digest(file, _md5).digest()).decode(),
                    # A header holds ASCII only.
                    "Content-Type": quote(content_type, safe=string.punctuation + " "),
                }
                file.seek(0)
                answer = self._http.request("PUT", url, body=file, headers=headers)
            if answer.status != HTTPStatus.OK:
                raise S3Error.fromxml(answer)

        def send_whatever_is_missing() -> None:
            try:
                send()
            except S3Error as error:
                if error.code != NO_BUCKET:
                    raise
                self._make(bucket)
                send()

        await self._call(send_whatever_is_missing)

    async def fetch(self, bucket: Bucket, key: str, target: Path) -> None:
        def receive() -> None:
            response = self._client.get_object(bucket, key)
            try:
                _size(response)
                with target.open("wb") as file:
                    while chunk := _read(response):
                        file.write(chunk)
            finally:
                _release(response)

        await self._call(receive)

    @asynccontextmanager
    async def open(self, bucket: Bucket, key: str, part: range | None = None) -> AsyncIterator[Blob]:
        # A list, because a caller that is cancelled meanwhile gets no answer, yet has to release the connection.
        opened: list[BaseHTTPResponse] = []

        def begin() -> int:
            offset, length = (part.start, len(part)) if part else (0, 0)
            opened.append(self._client.get_object(bucket, key, offset, length))
            size = _size(opened[0])
            if part and size != length:
                raise HTTPError(f"an answer of {size} bytes, where {length} were asked for")
            return size

        try:
            size = await self._call(begin)
            async with aclosing(self._chunks(opened[0])) as chunks:
                yield Blob(size_bytes=size, chunks=chunks)
        finally:
            for response in opened:
                _release(response)

    async def delete(self, bucket: Bucket, key: str) -> None:
        def remove() -> None:
            try:
                self._client.remove_object(bucket, key)
            except S3Error as error:
                if error.code not in (NO_OBJECT, NO_BUCKET):
                    raise

        await self._call(remove)

    async def keys(self, bucket: Bucket) -> AsyncGenerator[str, None]:
        # Asks the store for the next page whenever one is used up.
        objects = self._client.list_objects(bucket, recursive=True)

        def page() -> list[str]:
            try:
                return [str(found.object_name) for found in islice(objects, LISTED)]
            except ValueError as error:
                raise HTTPError(f"an answer that is no list of objects: {error}") from error

        while batch := await self._call(page):
            for key in batch:
                yield key

    def link(self, bucket: Bucket, key: str, content_type: str, disposition: str) -> str | None:
        if self._public is None:
            return None
        answer: dict[str, str | list[str] | tuple[str]] = {
            "response-content-type": content_type,
            "response-content-disposition": disposition,
        }
        return self._public.presigned_get_object(bucket, key, timedelta(seconds=LINK_SECONDS), answer)

    async def check(self) -> None:
        def look() -> None:
            for bucket in Bucket:
                if not self._client.bucket_exists(bucket):
                    self._make(bucket)

        await self._call(look)

    def _make(self, bucket: Bucket) -> None:
        try:
            self._client.make_bucket(bucket)
        except S3Error as error:
            if error.code not in MADE_MEANWHILE:
                raise

    async def _chunks(self, response: BaseHTTPResponse) -> AsyncGenerator[bytes, None]:
        while chunk := await self._call(lambda: _read(response)):
            yield chunk

    async def _call(self, call: Callable[[], T]) -> T:
        """The only place where threads are taken and the SDK's errors are turned into ours."""
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable("object store", f"no thread was free in {self._patience} s") from None
        try:
            return await run_to_end(self._threads, call)
        except FAILURES as error:
            if isinstance(error, S3Error) and error.code == NO_OBJECT:
                raise BlobNotFound("The object store has no such object.") from None
            reason = f"{error.code}: {error.message}" if isinstance(error, S3Error) else f"{type(error).__name__}: {error}"
            raise Unavailable("object store", reason[:500]) from error
        finally:
            self._free.release()


def _md5() -> Any:
    """Against damage on the way, not against anybody: it is what S3 takes."""
    return hashlib.md5(usedforsecurity=False)


def _size(response: BaseHTTPResponse) -> int:
    size = response.headers.get("Content-Length", "")
    if not size.isdecimal():
        raise HTTPError("an answer without a length, whose end could not be told from a broken connection")
    return int(size)


def _read(response: BaseHTTPResponse) -> bytes:
    """Raises HTTPError where the connection ends before the announced length."""
    return response.read(CHUNK_BYTES, decode_content=False)


def _release(response: BaseHTTPResponse) -> None:
    """Gives the connection back: as it is after the last byte, closed where somebody stopped reading before."""
    response.close()
    response.release_conn()
