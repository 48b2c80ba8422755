# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""The one exception that stands for a mistake a user can mend."""


class UserError(Exception):
    """A mistake in the user's input, told in one line.

    The line names the file or the key and says what to do. The command-line
    tools print it without a traceback and exit with code 2; every other
    exception is a defect of ours and keeps its traceback. Line breaks in what a user
    gave are shown as blanks.
    """

    def __str__(self) -> str:
        return ' '.join(super().__str__().splitlines())


def first_line(error: BaseException) -> str:
    """First line of an error's text that is not blank, else its type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
