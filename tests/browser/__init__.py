"""JupyterLab and plain pages, driven in a real Chromium."""
