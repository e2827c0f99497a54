"""Random faults on small campaigns, from a seed: `make chaos SEED=…`."""
