"""The database: the only package that speaks SQL.

`engine` opens it, `schema` is its tables, `dialect` all that differs between database
systems. The other modules are functions on a connection, one noun each; whoever calls
them holds the transaction.
"""
