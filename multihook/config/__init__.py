"""The configuration: read and checked on a change, compiled and cached for the hooks, with the last good one kept."""
