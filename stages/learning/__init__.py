"""How networks learn: backbones, heads, losses, optimizers, schedules, averages, and the one training loop."""
