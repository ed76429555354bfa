"""The steps that make a database's tables what ``tables`` says, by Alembic; ``migration`` runs them."""
