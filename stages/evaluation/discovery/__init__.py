"""Regions from dense features: the parts of protocol `discovery`."""
