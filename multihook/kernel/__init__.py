"""The doors to the kernel: one small module for each kind of message, nothing decided here."""
