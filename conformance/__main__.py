"""`python -m lingspec.conformance` is `lingspec`."""

from lingspec.conformance.cli import main

main()
