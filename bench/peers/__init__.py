"""The contenders, a module each, whose library is imported when it is asked for.

`NEEDS` names the packages that it imports, `fits(work)` is True if it can do the work at all, and
`prepare(work)` makes the `Call` that does it. A new one is a file here, and a name in compare.py's `PEERS`
and speed_tables.py's `NAMES`.
"""
