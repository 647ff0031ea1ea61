"""The one exception base of the project. Every package derives its own tree from it; the command line prints
`error: <message>` for any of them and exits with 1, so a message is one line and says what to do next."""


class EfedllmError(Exception):
    """Something a person can act on."""
