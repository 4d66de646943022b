"""MinIO's account for the programs: the two buckets and what is done with objects in them, by the policy in `policy.json`.

Makes the buckets too, which the account then need not. Only MinIO has this way of making accounts; other stores take the policy.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, S3Error
from minio.minioadmin import MinioAdmin
from urllib3 import PoolManager, Timeout

from common.adapters.minio.store import FAILURES, MADE_MEANWHILE
from common.errors import Unavailable, WrongConfiguration
from common.ports import AccountKeys, Bucket
from common.tls import trusting

T = TypeVar("T")

POLICY = "image-processor"
NO_USER = "XMinioAdminNoSuchUser"
BODY = ", Body: "
# What will be refused again, by the setting that it is about.
REFUSED = {"XMinioAdminInvalidAccessKey": "MINIO_ACCESS_KEY", "XMinioAdminInvalidSecretKey": "MINIO_SECRET_KEY"}
# In bytes. It names upper limits as well, and does not keep to them.
LEAST_ACCESS_KEY = 3
LEAST_SECRET_KEY = 8


class MinioAccounts:
    """An Accounts."""

    def __init__(
        self, endpoint: str, admin: AccountKeys, app: AccountKeys, region: str, timeout_seconds: float, ca_file: Path | None
    ) -> None:
        """Raises WrongConfiguration."""
        if app.name == admin.name:
            raise WrongConfiguration("MINIO_ACCESS_KEY", "is the administrator's; choose another, which is made")
        if len(app.name.encode()) < LEAST_ACCESS_KEY or set("=,") & set(app.name):
            raise WrongConfiguration("MINIO_ACCESS_KEY", f"must have at least {LEAST_ACCESS_KEY} characters, and no = or comma")
        if len(app.secret.encode()) < LEAST_SECRET_KEY:
            raise WrongConfiguration("MINIO_SECRET_KEY", f"must have at least {LEAST_SECRET_KEY} characters")
        scheme, _, address = endpoint.rpartition("://")
        secure = scheme == "https"
        http = PoolManager(timeout=Timeout(total=timeout_seconds), retries=False, ssl_context=trusting(ca_file) if secure else None)
        self._app, self._admin_name = app, admin.name
        try:
            self._client = Minio(address, admin.name, admin.secret, secure=secure, region=region, http_client=http)
            credentials = StaticProvider(admin.name, admin.secret)
            self._admin = MinioAdmin(endpoint=address, credentials=credentials, region=region, secure=secure, http_client=http)
        except ValueError as error:
            raise WrongConfiguration("MINIO_ENDPOINT", str(error)) from None

    async def make(self) -> str:
        policy = json.loads(files(__package__).joinpath("policy.json").read_text())

        def all_of_it() -> None:
            for bucket in Bucket:
                self._make(bucket)
            self._admin.policy_add(POLICY, policy=policy)
            self._admin.user_add(self._app.name, self._app.secret)
            # Replaces what the account was given before, too.
            self._admin.policy_set(POLICY, user=self._app.name)

        await _call(all_of_it)
        return f"{self._app.name} puts, reads, lists and deletes objects in {' and '.join(Bucket)} (policy {POLICY})"

    def uses(self, name: str) -> bool:
        return name in (self._app.name, self._admin_name)

    async def remove(self, name: str) -> bool:
        def remove() -> bool:
            try:
                self._admin.user_remove(name)
            except MinioAdminException as error:
                if NO_USER not in str(error):
                    raise
                return False
            return True

        return await _call(remove)

    def _make(self, bucket: Bucket) -> None:
        try:
            if not self._client.bucket_exists(bucket):
                self._client.make_bucket(bucket)
        except S3Error as error:
            if error.code not in MADE_MEANWHILE:
                raise


async def _call(call: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(call)
    except MinioAdminException as error:
        code, words = _said(error)
        if variable := REFUSED.get(code):
            raise WrongConfiguration(variable, f"MinIO refuses it: {words}") from error
        raise Unavailable("object store", f"{code}: {words}"[:500]) from error
    except FAILURES as error:
        raise Unavailable("object store", f"{type(error).__name__}: {error}"[:500]) from error


def _said(error: MinioAdminException) -> tuple[str, str]:
    """→ MinIO's code for it and its words, in one line; the SDK has only the whole answer."""
    with suppress(ValueError, KeyError, TypeError):
        answer = json.loads(str(error).partition(BODY)[2])
        return str(answer["Code"]), " ".join(str(answer["Message"]).split())
    return type(error).__name__, " ".join(str(error).split())
