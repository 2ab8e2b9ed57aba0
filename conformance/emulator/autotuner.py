"""Autotuned kernels without a clock: the configuration that runs is chosen, not measured."""

import weakref
from typing import Any

from .errors import StaticAssertion


class Choice:
    """Runs configuration ``state.index``; notes the kernels seen in ``state.configs``."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._tuned: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()

    def run(self, tuner: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen configuration, as ``Autotuner.run`` runs the fastest.

        A configuration whose static assertions fail gives way to the next, as it does
        when tuning. The first launch for a key zeroes ``reset_to_zero``: tuning does.
        ``restore_value`` needs nothing, since no configuration is tried before.
        """
        tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
        configs = _pruned(tuner, kwargs)
        name = tuner.base_fn.__name__
        seen = self._state.configs
        seen[name] = max(seen.get(name, 0), len(configs))
        try:
            for attempt in range(len(configs)):
                config = configs[(self._state.index + attempt) % len(configs)]
                try:
                    return self._run_one(tuner, config, len(configs), args, kwargs)
                except StaticAssertion:
                    if attempt + 1 == len(configs):
                        raise
        finally:
            tuner.nargs = None
        return None

    def _run_one(self, tuner: Any, config: Any, count: int, args: Any, kwargs: Any) -> Any:
        options = config.all_kwargs()
        named = {**tuner.nargs, **kwargs, **options}
        key = _key(tuner, {**tuner.nargs, **kwargs})
        tuned = self._tuned.setdefault(tuner, set())
        if count > 1 and key not in tuned:
            tuned.add(key)
            tuner.pre_hook(named, reset_only=True)
        tuner.best_config = config
        if config.pre_hook is not None:
            config.pre_hook(named)
        return tuner.fn.run(*args, **kwargs, **options)


def _pruned(tuner: Any, kwargs: dict[str, Any]) -> list[Any]:
    """Return the configurations that the tuner's own pruning leaves.

    Pruning that fails for want of a device leaves all of them.
    """
    try:
        return list(tuner.prune_configs(kwargs)) or list(tuner.configs)
    except (AttributeError, RuntimeError, AssertionError, ImportError):
        return list(tuner.configs)


def _key(tuner: Any, named: dict[str, Any]) -> tuple[str, ...]:
    values = [named.get(name) for name in getattr(tuner, "keys", ())]
    dtypes = [value.dtype for value in named.values() if hasattr(value, "dtype")]
    return tuple(str(v) for v in values + dtypes)
