"""The protocols of the papers, one file each: a step of `orl evaluate` for one encoder, see `stages.suite_planning`."""
