"""The learner's end of the wire: admission, delivery, evaluation, watchdog."""
