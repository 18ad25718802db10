"""Search over the knobs of our operators, on the device that will run them, and the records that it leaves.

::

    task        an operator and a problem of a network, and how often the network asks it
    candidate   a task with one of the knob sets of its space
    trial       a candidate, built, checked against the reference and timed: a line of the records
    record      the knobs that beat the default, measured again in turns: what dispatch takes
"""
