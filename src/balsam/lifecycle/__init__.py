"""What happens to a job around its run: environment, hooks, files."""
