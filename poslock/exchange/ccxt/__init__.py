"""Real venues, through the ccxt client that the bot already has. ccxt signs and sends; what is said is said here."""
