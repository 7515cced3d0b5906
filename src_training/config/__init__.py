"""What a person writes: recipes, domains and presets."""
