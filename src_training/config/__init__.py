"""User configuration: recipes, domains and presets."""
