"""The 0.x import path of `balsam.compat.futures`."""

import sys

from balsam.compat import futures

sys.modules[__name__] = futures
