"""`python -m lingspec.golden check | list | record --reason WHY`."""

from __future__ import annotations

import argparse
import sys

from lingspec.golden.store import ENTRIES, check, record


def main() -> int:
    """Exit 0 if every golden comes out again, 1 if one does not."""
    parser = argparse.ArgumentParser(prog="python -m lingspec.golden")
    parser.add_argument("verb", choices=["check", "list", "record"])
    parser.add_argument("--reason", help="why a stored output changes; needed to record")
    options = parser.parse_args()
    if options.verb == "list":
        print("\n".join(f"{e.name}  {e.agreement}: {e.because}" for e in ENTRIES))
        return 0
    if options.verb == "record":
        if not options.reason:
            parser.error("record needs --reason")
        for entry in ENTRIES:
            if check(entry) is not None:
                print(record(entry, options.reason).name)
        return 0
    differences = [found for entry in ENTRIES if (found := check(entry)) is not None]
    print("\n".join(differences) or f"{len(ENTRIES)} goldens come out as stored")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
