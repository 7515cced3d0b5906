"""Many runs beside each other: planned, scheduled and scored."""
