"""The one exception base of the project. Every package derives its own tree from it; the command line prints
`error: <message>` for any of them and exits with 1, so a message is one line and says what to do next."""

MAX_SHOWN = 1000
"""Characters of a message; what is longer repeats what a stranger sent."""


class EfedllmError(Exception):
    """Something a person can act on. Whatever a stranger's words in it are, it reads as one printable line."""

    def __str__(self) -> str:
        text = super().__str__()
        return on_one_line(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")


def on_one_line(text: str) -> str:
    """A stranger's words as they may stand in messages, logs and terminals: printable, and in one line."""
    return text if text.isprintable() else "".join(part if part.isprintable() else " " for part in text)
