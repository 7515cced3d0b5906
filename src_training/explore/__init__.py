"""What semantic vectors, graphs and feature maps tell about domains."""
