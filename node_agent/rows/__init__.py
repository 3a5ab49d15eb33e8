"""From objects to the rows of the maps: pure. `host` puts it together, `diff` orders the changes."""
