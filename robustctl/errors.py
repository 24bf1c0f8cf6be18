"""The errors that this package raises on purpose; each message states what must hold, what was given and what to do."""


class RobustctlError(ValueError):
    """Base of every error raised for bad input."""


class ArgumentError(RobustctlError, TypeError):
    """An argument that a function or a settings class does not have."""


class DataError(RobustctlError):
    """A log or record that cannot be used as it is."""


class ModelError(RobustctlError):
    """A model asked for with sizes, bounds or parts that do not fit together."""


class ModelFileError(RobustctlError):
    """A model file that is missing parts, damaged, altered or of another version."""


class RobustctlWarning(UserWarning):
    """Something the user should know, after which work continues."""
