"""The 0.x import path of `balsam.compat.models`."""

import sys

from balsam.compat import models
from balsam.compat.models import *  # noqa: F403

sys.modules[__name__] = models
