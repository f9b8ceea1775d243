"""Spot markets of Binance and MEXC: how their codes and rows are read, and what is asked of them."""
