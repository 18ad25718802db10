"""Search over the schedule templates' knobs, and the records it leaves."""
