"""How fast training is: making views, a step of a method, both together."""
