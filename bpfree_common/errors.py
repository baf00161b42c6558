"""Errors whose message is one clear sentence for the user."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and what to do."""

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the sentence alone, for no line of code is at fault.

        JupyterLab, executed notebooks and IPython's terminal all ask for this method.
        """
        return [f"{type(self).__name__}: {self}"]


class ParameterError(UserError):
    """A notebook parameter is unknown, of the wrong type, or out of range."""


class DataError(UserError):
    """A data file cannot be had or used: missing, corrupted, or not readable."""


class DataMissing(DataError):
    """A data file is not here and could not come; a study may go on without it."""


class DataCorrupted(DataError):
    """A data file is here, but not with the bytes that were published."""


class CatalogueError(UserError):
    """The catalogue `papers.yaml` or a notebook breaks a convention."""


class ReportError(UserError):
    """A report or record cannot be read or written."""


class ContractError(UserError):
    """A learning rule breaks the contract of `LearningRule`."""


class DeviceError(UserError):
    """The device that BPFREE_DEVICE names is not here, or this PyTorch cannot use it."""


class AuditMismatch(AssertionError):
    """The measured credit audit differs from the row the notebook states."""


class IdentityFailed(AssertionError):
    """A mathematical identity of a rule does not hold."""


def choices(name: str, known: Iterable[str]) -> str:
    """How to end a sentence about an unknown name: the nearest names, or all of them."""
    known = list(map(str, known))
    near = difflib.get_close_matches(str(name), known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose one of {', '.join(known)}"


def short(value, length: int = 60) -> str:
    """`repr(value)` for a sentence: cut in the middle of nothing that anybody reads."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        text = f"a {type(value).__name__} too long to print"
    return text if len(text) <= length else f"{text[: length - 3]}..."
