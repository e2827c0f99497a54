"""The process that calls Python functions: runs under the user's own Python.

Started as a directory (``python …/balsam/runner``), it imports nothing of Balsam and only the
standard library, and cloudpickle: that Python's own, or else Balsam's.
"""
