"""Attributes set on other people's objects, and put back exactly as they were."""

from typing import Any

_ABSENT = object()


class Patches:
    """A stack of replaced attributes; ``restore`` puts every one back, last first.

    The old value is read from the object's own ``__dict__``, so that a property or a
    function comes back as the same object, and an attribute that was inherited is
    deleted again.
    """

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def set_attr(self, owner: Any, name: str, value: Any) -> None:
        """Set ``owner.name``; the name of this method is the one Triton's own scopes have."""
        self._replaced.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def restore(self) -> None:
        """Undo everything."""
        while self._replaced:
            owner, name, value = self._replaced.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
