"""What a command can fail with beside the service's own errors; and what a program says at its end of either."""

from common.errors import ImageProcessorError, Unavailable, WrongConfiguration


class RequestFailed(Exception):
    """The service answered a command's request with an error, or not at all. The text says which, and what to do."""


class WrongUsage(Exception):
    """The command's options do not go together. The text says what does."""


class ProcessEnded(Exception):
    """A process of a program's could not go on, nor could another in its place. `line` and `code`: what it ended with."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.line = line
        self.code = code


FORESEEN = (ImageProcessorError, RequestFailed, WrongUsage, ProcessEnded)


def last_words(error: ImageProcessorError | RequestFailed | WrongUsage | ProcessEnded) -> tuple[str, int]:
    """→ one line, and the exit code: 2 where somebody has to change what the program was given, else 1."""
    match error:
        case ProcessEnded():
            return error.line, error.code
        case WrongConfiguration():
            return f"image-processor: {error.detail}", 2
        case WrongUsage():
            return f"image-processor: {error}", 2
        case Unavailable():
            return f"image-processor: {error.detail} ({error.reason})", 1
        case _:
            return f"image-processor: {error}", 1
