"""The protocols by which the papers measure a pretrained backbone: one file and one cached step each."""
