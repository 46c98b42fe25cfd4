"""Every figure of a study: its numbers, then its drawing."""
