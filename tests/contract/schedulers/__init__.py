"""What every adapter of a batch system does, on every system there is.

`system` says what a system gives to the suite, and `systems` lists them: real ones, the batch
system of this machine, and fakes. A fake is one file in `fakes/`: programs that print what the
real commands print, of a `world` that the test changes.
"""
