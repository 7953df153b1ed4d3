"""Everything that knows PostgreSQL: its wire protocol, its server, its roles and its settings."""
