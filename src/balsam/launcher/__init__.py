"""The pilot inside an allocation.

`plan` decides (pure: events in, actions out), `drive` connects it to the client and the
workers, `worker` starts processes on a node, `messages` is what they say to each other.
"""
