"""A user's mistake, told in one line."""

LONGEST = 1000
"""Characters of a message: it may quote what a damaged file holds."""


class UserError(Exception):
    """What is wrong, where, and how to mend it; the command prints it alone and exits with code 2.

    The message is made a clear line.
    """

    def __init__(self, message: str):
        super().__init__(single_line(message))


def single_line(text: str) -> str:
    r"""One line that any terminal can show: a line break in what it quotes as `\n`, an escape character as `\x1b`, and so on;
    the middle of more than LONGEST characters is left out."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST // 2 - 2
    return line if len(line) <= LONGEST else f"{line[:half]}...{line[-half:]}"


def did_you_mean(word: str, words) -> str:
    """`; did you mean 'crop'?` for a word near one of `words`, else the list of them, the first 20 where they are many."""
    import difflib

    words = [str(w) for w in words]
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(words[:20])}{', ...' * (len(words) > 20)}"


def reason(error: Exception) -> str:
    """What an exception of a library says, on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__
