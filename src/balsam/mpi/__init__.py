"""Starting programs of several ranks."""
