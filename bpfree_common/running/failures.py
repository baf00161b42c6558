"""What the runner tells the user about a run that failed."""

LONGEST_TEXT, LONGEST_TRACE = 2_000, 20_000  # characters
MOST_LINES = 120  #: of a traceback: one of a recursion has a thousand


def failure(name: str, text: str, cell: int | None = None, trace: str = "") -> dict:
    """A failed run's result: kind of error, sentence, cell and traceback, all short."""
    return {
        "ok": False,
        "ename": _shortened(str(name), LONGEST_TEXT),
        "error": _shortened(text, LONGEST_TEXT),
        "cell": cell,
        "trace": _shortened(_fewer(trace), LONGEST_TRACE),
    }


def _fewer(trace: str) -> str:
    """A traceback of too many lines as its first and last ones."""
    lines, half = trace.splitlines(), MOST_LINES // 2
    if len(lines) <= MOST_LINES:
        return trace
    left_out = f"[... {len(lines) - 2 * half} lines ...]"
    return "\n".join([*lines[:half], left_out, *lines[-half:]])


def _shortened(text: str, longest: int) -> str:
    """A text too long for a terminal as its beginning and its end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[... {len(text) - longest} characters ...]\n{text[-half:]}"
