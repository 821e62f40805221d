"""Who is let in, and how often: addresses, rate limits, tries that are slowed down."""
