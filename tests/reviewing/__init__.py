"""Tests of the room `reviewing`; those of the page itself run in a real browser."""
