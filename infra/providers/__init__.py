"""Dynamic providers of stack `local`. Their module paths are written into state: never move or rename one."""
