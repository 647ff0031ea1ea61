"""The one exception base of the project. Every package derives its own tree from it; the command line prints
`error: <message>` for any of them and exits with 1, so a message is one line and says what to do next."""


class EfedllmError(Exception):
    """Something a person can act on."""


def on_one_line(text: str) -> str:
    """A stranger's words as they may stand in messages, logs and terminals: printable, and in one line."""
    return text if text.isprintable() else "".join(part if part.isprintable() else " " for part in text)
