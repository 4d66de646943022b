"""What becomes of a message: the only place that knows. A test walks the error tree and fails on a leaf without an outcome."""

from enum import StrEnum

from common import errors


class Outcome(StrEnum):
    """ACK: the row knows what comes next. HAND_BACK: somebody else may have it. DEFER: a later program must have it.
    REJECT: to the dead letters."""

    ACK = "ack"
    HAND_BACK = "hand-back"
    DEFER = "defer"
    REJECT = "reject"


# The first class that fits. A job raises only the first three; the rest would be our bug, and so would be any error of no class
# here. Then the row's lease ends and the dispatcher sends again until the attempts are used up; handing the message back meanwhile
# would only make a hot loop.
OUTCOMES: tuple[tuple[type[Exception], Outcome], ...] = (
    (errors.UnreadableMessage, Outcome.REJECT),
    (errors.LaterMessage, Outcome.DEFER),
    (errors.Unavailable, Outcome.HAND_BACK),
    (errors.RenderFailed, Outcome.ACK),
    (errors.BlobNotFound, Outcome.ACK),
    (errors.InvalidRequest, Outcome.ACK),
    (errors.Unauthorized, Outcome.ACK),
    (errors.Forbidden, Outcome.ACK),
    (errors.RateLimited, Outcome.ACK),
    (errors.NotAcceptable, Outcome.ACK),
    (errors.IdempotencyMismatch, Outcome.ACK),
    (errors.ImageNotFound, Outcome.ACK),
    (errors.ResultNotReady, Outcome.ACK),
    (errors.ProcessingFailed, Outcome.ACK),
    (errors.NotMigrated, Outcome.ACK),
    (errors.WrongConfiguration, Outcome.ACK),
)


def outcome_of(error: Exception | None) -> Outcome:
    """None: the job was done."""
    return next((outcome for kind, outcome in OUTCOMES if isinstance(error, kind)), Outcome.ACK)
