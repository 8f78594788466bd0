"""The five stages and what they share: plain Python and PyTorch, never Prefect."""
