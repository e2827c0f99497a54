"""Python functions as jobs, from the program that calls them.

`app` makes a function submittable, `Executor` submits any, `Future` is what comes back. What
carries the calls out is in `launcher` and `runner`; how calls and results are written, in
`model/payload.py`.
"""
