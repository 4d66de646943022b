"""A proxy that the environment names leads to services elsewhere, but never to one on this machine."""

# For httpx's `mounts`: straight there.
DIRECT = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
