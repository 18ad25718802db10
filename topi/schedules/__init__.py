"""Schedule templates: shared tiles here, one subpackage per kind of machine."""
