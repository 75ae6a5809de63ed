"""The public functions behind the commands, and their results: each is true on success and is the object of ``--json``.

The rooms compute; here it is put together and said. The command line reads arguments, calls a function of this package and
prints its result.
"""
