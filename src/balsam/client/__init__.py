"""The one interface between everything above the database and the database."""
