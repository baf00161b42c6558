"""Errors whose message is one clear sentence for the user."""


class UserError(Exception):
    """Something the user can mend; the message says what is wrong and what to do."""

    exit_code = 2


class ParameterError(UserError):
    """A notebook parameter is unknown, of the wrong type, or out of range."""


class DataError(UserError):
    """A data file is missing, unreachable or corrupted."""


class CatalogueError(UserError):
    """The catalogue `papers.yaml` or a notebook breaks a convention."""


class ReportError(UserError):
    """A report or record cannot be read or written."""


class ContractError(UserError):
    """A learning rule breaks the contract of `LearningRule`."""


class AuditMismatch(AssertionError):
    """The measured credit audit differs from the row the notebook states."""


class IdentityFailed(AssertionError):
    """A mathematical identity of a rule does not hold."""
