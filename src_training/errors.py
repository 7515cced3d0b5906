"""The one exception a person is meant to read."""


class InputError(ValueError):
    """Input that cannot be used, said in one sentence.

    The message names the file, layer or field, what was found there, and what
    is expected. The command line prints it and exits with 2; the widgets show
    it in place. Anything else that is raised is a fault of ours.
    """
