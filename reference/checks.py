"""Refusals: an argument, what it was, and what it must be."""

__all__ = ["ContractError", "require"]


class ContractError(ValueError):
    """The caller broke an op's contract: a shape, a dtype or a value that it does not allow."""


def require(ok: bool, name: str, what: str, got: object, expected: str) -> None:
    """Raise unless ``ok``, naming the argument, what it was and what it must be.

    Raises:
        ContractError: ``ok`` is false.
    """
    if not ok:
        raise ContractError(f"{name} has {what} {got}, but must have {expected}")
