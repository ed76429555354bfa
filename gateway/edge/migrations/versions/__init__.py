"""One module for each step. Steps only add: a gateway of the version before goes on while a new one is rolled out."""
