"""How the costs grow: with the tasks, the workers, the payload, and what nothing costs."""
