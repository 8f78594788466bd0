"""The shelf of papers: one method a file."""
