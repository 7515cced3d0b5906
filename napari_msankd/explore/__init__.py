"""The Explore widget: compare domains by a model's semantic vectors."""
