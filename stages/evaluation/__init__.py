"""Stage 5, evaluation: `stage` is what a run ends with; `protocols/` are those of the papers, for `orl evaluate`."""
