"""Data that ships with Framedeck: icons, the starter model's recipe, themes."""
