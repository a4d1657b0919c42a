"""What must exist in the database: indexes, validators, views and roles."""
