"""Roles and database of a PostgreSQL server that a site manages."""

DATABASE = "balsam"
#: Owns the database and all in it.
OWNER = "balsam"
#: Rules the server; has the reserved connections.
ADMINISTRATOR = "balsam_admin"
#: What all added users are members of.
USERS = "balsam_users"
