"""How background loops run, and how long to wait before trying again."""
