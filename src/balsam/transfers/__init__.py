"""Moving files between a directory here and a URL: one file a kind of URL (see `movers`)."""
