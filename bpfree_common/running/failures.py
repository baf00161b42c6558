"""What the runner tells the user about a run that failed."""

LONGEST_TEXT, LONGEST_TRACE = 2_000, 20_000  # characters


def failure(name: str, text: str, cell: int | None = None, trace: str = "") -> dict:
    """A failed run's result: kind of error, sentence, cell and traceback, all short."""
    return {
        "ok": False,
        "ename": _shortened(str(name), LONGEST_TEXT),
        "error": _shortened(text, LONGEST_TEXT),
        "cell": cell,
        "trace": _shortened(trace, LONGEST_TRACE),
    }


def _shortened(text: str, longest: int) -> str:
    """A text too long for a terminal as its beginning and its end."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[... {len(text) - longest} characters ...]\n{text[-half:]}"
