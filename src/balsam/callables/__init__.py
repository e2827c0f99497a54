"""Functions of users: where they are from, and their code where that has to go along."""
