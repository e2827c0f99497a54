"""The 0.x import path of `balsam.dag`."""

import sys

from balsam import dag

sys.modules[__name__] = dag
