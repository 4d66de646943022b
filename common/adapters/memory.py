"""In-process adapters for the embedded mode. What they hold is gone with the process; the rows bring it back."""
