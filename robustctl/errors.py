"""The errors that this package raises on purpose; each message states what must hold, what was given and what to do."""

from typing import TYPE_CHECKING


class RobustctlError(ValueError):
    """Base of every error raised for bad input."""


class ArgumentError(RobustctlError, TypeError):
    """An argument that a function or a settings class does not have."""


class DataError(RobustctlError):
    """A log or record that cannot be used as it is."""


class InvalidModelError(RobustctlError):
    """A model asked for with sizes, bounds or parts that do not fit together."""


class ModelFileError(RobustctlError):
    """A model file that is missing parts, damaged, altered or of another version."""


class RobustctlWarning(UserWarning):
    """Something the user should know, after which work continues."""


if not TYPE_CHECKING:  # a type checker would otherwise take any name for one of this module

    def __getattr__(name: str):
        if name == "ModelError":
            raise AttributeError(
                "rc.errors.ModelError is rc.errors.InvalidModelError now; rc.certificates.ModelError is an error of a plant's model"
            )
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
