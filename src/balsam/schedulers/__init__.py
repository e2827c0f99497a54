"""Batch systems: one file each, which gives argument vectors and reads text.

`command` alone runs anything; `find` tells which batch system this machine has.
"""
