"""The PostgreSQL server that a site manages: its files, its programs, its start and its end.

Nothing here speaks SQL. One cluster belongs to one site; at most one server of it runs.
"""

from balsam.cluster.address import url as url
