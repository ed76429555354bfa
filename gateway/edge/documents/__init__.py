"""Documents and events: taken in once, handed over in order, every step written down and receipted."""
