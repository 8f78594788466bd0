"""Prefect, and nothing but Prefect: order, states, UI artefacts, deployments, and the `orl` command."""
