"""What object-level objectives cost beside the image-level ones that they start from; `python -m` runs it."""
