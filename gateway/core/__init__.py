"""Decides. No IO, no clock, no async, no logging: facts in, values out."""
