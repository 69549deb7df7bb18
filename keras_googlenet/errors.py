"""The one exception for mistakes that a user can mend."""


class UserError(ValueError):
    """A mistake of the caller's, told in one line: what was expected, what came, what to do.

    The command line prints it after `error: ` and exits with 2; everything else is a traceback.
    """
