"""The service at the edge of the system: submits batch jobs as the work needs, and watches them."""
