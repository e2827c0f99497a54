"""Commands of batch systems that are not here. `world` says how they are made."""
