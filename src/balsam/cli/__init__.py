"""The command line: one file a noun. `main` puts them together."""
