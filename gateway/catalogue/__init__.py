"""Reads what people declared into one immutable snapshot, and says what is wrong with it."""
