"""What the model checker looks for."""


class Violation(Exception):  # noqa: N818 - it is the finding
    """Something that must not be."""
