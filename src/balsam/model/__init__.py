"""Pure data and rules: no file, no clock, no network."""
