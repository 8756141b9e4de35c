"""Routes: tables of what routers told, sessions that fill them, and longest-prefix match."""
