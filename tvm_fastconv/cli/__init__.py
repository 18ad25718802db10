"""The command line ``fastconv``: parses and prints; every verb is a library function first."""
