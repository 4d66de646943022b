"""Objects in MinIO or any store that speaks S3, and on MinIO the account that may use them."""

from common.adapters.minio.store import MinioBlobStore

__all__ = ["MinioBlobStore"]
