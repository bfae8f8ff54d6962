"""The graph level: tensor programs in single assignment, their text, meaning, derivatives and passes."""

from intaglio.graph import grad

__all__ = ["grad"]
