"""What every pass stands on: reading a Relax graph, rewriting it, names, reports, and how operators are put into it."""
