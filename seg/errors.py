"""A user's mistake, told in one line."""


class UserError(Exception):
    """What is wrong, where, and how to mend it; the command prints it alone and exits with code 2."""


def nearest(word: str, words) -> str:
    """`; did you mean 'crop'?` for a word near one of `words`, else the list of them, the first 20 where they are many."""
    import difflib

    words = [str(w) for w in words]
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(words[:20])}{', ...' * (len(words) > 20)}"


def reason(error: Exception) -> str:
    """What an exception of a library says, on one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__
