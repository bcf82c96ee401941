"""The error a user can mend."""


class UndyingError(Exception):
    """A mistake or a circumstance that the user can mend; the message names the thing and the way out.

    The command line prints it as one line and exits with 2.
    """


class RunsFailedError(UndyingError):
    """Runs of a comparison failed, others may be finished."""
