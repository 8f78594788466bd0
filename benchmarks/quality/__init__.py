"""Does it learn? Every method beside a random network and beside its base, in several seeds; `python -m` runs it."""
