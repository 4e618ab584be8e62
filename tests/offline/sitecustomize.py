"""Python imports this at start-up where the folder is on PYTHONPATH, so kernels and servers stay off the network."""

import no_network  # noqa: F401
