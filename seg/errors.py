"""Errors that a user can fix, reported in one line."""

from collections.abc import Iterable, Mapping

LONGEST = 1000
"""Most characters of a message: it may quote the content of a damaged file."""


class UserError(Exception):
    """An error that says what is wrong, where, and how to fix it, in one line.

    The command prints the message alone and exits with code 2.
    """

    def __init__(self, message: str):
        super().__init__(single_line(message))


def single_line(text: str) -> str:
    r"""The text as one line that any terminal can show: line breaks become `\n`, escape characters `\x1b`, and so on.

    The middle of more than LONGEST characters is left out.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST // 2 - 2
    return line if len(line) <= LONGEST else f"{line[:half]}...{line[-half:]}"


def did_you_mean(word: str, words: Iterable[object]) -> str:
    """`; did you mean 'crop'?` if a word is close to one of `words`; otherwise a list of the first 20 of them."""
    import difflib

    known = [str(w) for w in words]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(known[:20])}{', ...' * (len(known) > 20)}"


def no_attribute(module: str, name: str, hints: Mapping[str, str], known: Iterable[str]) -> AttributeError:
    """The error for a name that a module does not have: what to write instead, or the closest name.

    Args:
        module: the module's name.
        name: what was looked up.
        hints: what to write instead of names of other libraries.
        known: the names of the module.
    """
    if name.startswith("_"):  # Python and its tools ask for these; nobody reads the answer
        return AttributeError(f"module '{module}' has no attribute '{name}'")
    hint = f"; {hints[name]}" if name in hints else did_you_mean(name, known)
    return AttributeError(f"module '{module}' has no attribute '{name}'{hint}")


def reason(error: Exception) -> str:
    """The message of an exception, on one line; of the system's errors without number and path."""
    text = getattr(error, "strerror", None) or str(error)  # PyAV has errors of its own with such a text
    return " ".join(text.split())[:400] or type(error).__name__
