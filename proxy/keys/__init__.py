"""Virtual keys and limits: who may ask for what, how much, and what it may cost."""
