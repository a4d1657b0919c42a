"""PraisonAI's classes on MongoDB, beside PraisonAI's own."""
