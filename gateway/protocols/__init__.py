"""How an agency's own system is spoken to: one interface, one module for each protocol."""
