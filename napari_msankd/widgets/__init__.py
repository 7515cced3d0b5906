"""Qt parts that several widgets are made of."""
