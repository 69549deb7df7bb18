"""The exceptions that a user is told of in one line."""


class UserError(ValueError):
    """A mistake of the caller's, told in one line: what was expected, what came, what to do.

    The command line prints it after `error: ` and exits with 2; everything else is a traceback.
    """


class Interrupted(Exception):  # noqa: N818 (like KeyboardInterrupt, it is nobody's error)
    """A signal ended the work, at a point from which it can go on.

    The command line prints its one line and exits with 128 and the signal's number, as shells do.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
