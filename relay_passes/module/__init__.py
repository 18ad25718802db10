"""Whole modules: constants, legal loops, fusion, schedules, and what is noted of layers on the way."""
