"""The kernel side of a host: generated layout, maps and programs. `layout` and `record` are pure."""
