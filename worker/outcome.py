"""What becomes of a message: the only place that knows. A test walks the error tree and fails on a leaf without an outcome."""

from enum import StrEnum

from common.errors import ImageProcessorError, Unavailable, UnreadableMessage


class Outcome(StrEnum):
    """ACK: the row knows what comes next. HAND_BACK: somebody else may have it. REJECT: to the dead letters."""

    ACK = "ack"
    HAND_BACK = "hand-back"
    REJECT = "reject"


# The first class that fits. What is left over is our bug: the row's lease ends, the dispatcher sends again until the attempts
# are used up, and handing the message back meanwhile would only make a hot loop.
OUTCOMES: tuple[tuple[type[Exception], Outcome], ...] = (
    (UnreadableMessage, Outcome.REJECT),
    (Unavailable, Outcome.HAND_BACK),
    (ImageProcessorError, Outcome.ACK),
    (Exception, Outcome.ACK),
)


def outcome_of(error: Exception | None) -> Outcome:
    """None: the job was done."""
    if error is None:
        return Outcome.ACK
    return next(outcome for kind, outcome in OUTCOMES if isinstance(error, kind))
