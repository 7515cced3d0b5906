"""What a teacher can teach: one interface, one file a method."""
