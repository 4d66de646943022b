"""What a command can fail with beside the service's own errors."""


class RequestFailed(Exception):
    """The service answered a command's request with an error, or not at all. The text says which, and what to do."""


class WrongUsage(Exception):
    """The command's options do not go together. The text says what does."""
