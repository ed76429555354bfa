"""The commands: one module for each noun, put together by ``gateway.__main__``."""
