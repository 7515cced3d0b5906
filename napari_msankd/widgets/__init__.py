"""Qt widgets that several of the plugin's widgets share."""
