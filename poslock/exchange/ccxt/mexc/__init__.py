"""MEXC perpetual futures: how its codes and rows are read, and what is asked of it."""
