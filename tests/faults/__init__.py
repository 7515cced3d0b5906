"""What a crash, a full disk, a file from a stranger and little memory may and may not do."""
