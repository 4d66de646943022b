"""Everything that can go wrong, as one tree with stable codes and no HTTP in it.

    ImageProcessorError
    ├── InvalidRequest            the caller has to change something
    │   ├── BadRequest            a request that makes no sense as a whole
    │   ├── BadMultipart          a body that is no well-formed upload
    │   ├── InvalidParameter      a field or parameter, named by `field`
    │   ├── InvalidProcessing     an unknown or impossible processing step
    │   ├── UnsupportedMedia      not an image of an allowed format
    │   ├── TooLarge              over a limit of bytes or pixels
    │   └── HeadersTooLarge       over a limit of header bytes
    ├── Unauthorized              no token, or one that is not valid
    ├── Forbidden                 a valid token that lacks the role
    ├── RateLimited               the caller has asked too often
    ├── NotAcceptable             there is no representation of the kind asked for
    ├── IdempotencyMismatch       a key that was used for another upload
    ├── ImageNotFound             unknown, or somebody else's
    ├── ResultNotReady            asked for before it is final
    ├── ProcessingFailed          asked for, and there is none
    ├── Unavailable               a service we need does not answer, named by `service`
    │   └── Full                  … or answers, and takes nothing: its memory or disk has run low
    ├── BlobNotFound              the object store has no such object
    ├── UnreadableMessage         a queue message that no version can decode
    ├── LaterMessage              a queue message that a later version can decode
    ├── RenderFailed              a picture that could not be rendered
    │   ├── PictureRefused        … and never will be: permanent, with the failure's code
    │   └── RenderInterrupted     … this time: the child crashed or ran over a limit
    ├── NotMigrated               the database is not at this program's revision
    └── WrongConfiguration        a setting that cannot be used, named by `variable`

Adapters raise nothing else. HTTP statuses live in gateway/problems.py alone, broker outcomes in worker/outcome.py alone.
"""

from common.images import FailureCode


class ImageProcessorError(Exception):
    """Root of the tree. `code` is stable; `detail` says, in words for the caller, what to do about it."""

    code = "internal"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidRequest(ImageProcessorError):
    code = "bad-request"


class BadRequest(InvalidRequest):
    code = "bad-request"


class BadMultipart(InvalidRequest):
    code = "bad-multipart"


class InvalidParameter(InvalidRequest):
    code = "validation"

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.message = detail


class InvalidProcessing(InvalidRequest):
    code = "invalid-processing"


class UnsupportedMedia(InvalidRequest):
    code = "unsupported-media-type"


class TooLarge(InvalidRequest):
    code = "too-large"


class HeadersTooLarge(InvalidRequest):
    code = "headers-too-large"


class Unauthorized(ImageProcessorError):
    """`token_given` tells RFC 6750's two cases apart: no token at all is challenged without an error."""

    code = "unauthorized"

    def __init__(self, detail: str, *, token_given: bool = True) -> None:
        super().__init__(detail)
        self.token_given = token_given


class Forbidden(ImageProcessorError):
    code = "forbidden"


class RateLimited(ImageProcessorError):
    code = "rate-limited"

    def __init__(self, limit: int, window_seconds: int, reset_seconds: int) -> None:
        """`limit` requests in `window_seconds` are allowed; there is room again in `reset_seconds`."""
        super().__init__(f"{limit} requests in {window_seconds} seconds are allowed; try again in {reset_seconds} seconds.")
        self.limit = limit
        self.window_seconds = window_seconds
        self.reset_seconds = reset_seconds


class NotAcceptable(ImageProcessorError):
    code = "not-acceptable"


class IdempotencyMismatch(ImageProcessorError):
    code = "idempotency-mismatch"


class ImageNotFound(ImageProcessorError):
    code = "not-found"


class ResultNotReady(ImageProcessorError):
    code = "not-ready"


class ProcessingFailed(ImageProcessorError):
    code = "processing-failed"


class Unavailable(ImageProcessorError):
    code = "unavailable"

    def __init__(self, service: str, reason: str) -> None:
        """`service` is its role (database, object store, queue, cache, identity provider); `reason` is for the log only."""
        super().__init__(f"The {service} is unavailable at the moment; try again in a few seconds.")
        self.service = service
        self.reason = reason


class Full(Unavailable):
    pass


class BlobNotFound(ImageProcessorError):
    code = "blob-not-found"


class UnreadableMessage(ImageProcessorError):
    code = "unreadable-message"


class LaterMessage(ImageProcessorError):
    code = "later-message"


class RenderFailed(ImageProcessorError):
    code = "render-failed"

    def __init__(self, failure_code: FailureCode, detail: str) -> None:
        super().__init__(detail)
        self.failure_code = failure_code


class PictureRefused(RenderFailed):
    """Trying again cannot help: corrupt, or over a limit of the decoded picture."""


class RenderInterrupted(RenderFailed):
    """The child process crashed, or ran over its time or memory limit; or the file was not what was uploaded: costs the picture an
    attempt."""


class NotMigrated(ImageProcessorError):
    code = "not-migrated"


class WrongConfiguration(ImageProcessorError):
    code = "wrong-configuration"

    def __init__(self, variable: str, detail: str) -> None:
        super().__init__(f"{variable}: {detail}")
        self.variable = variable
