"""Why jobs do not run (yet): facts in, reasons out. Pure; `report.why` fetches the facts."""
