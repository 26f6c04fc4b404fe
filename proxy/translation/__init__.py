"""A process of its own that speaks the clients' protocols at the front and, through litellm, everybody else's behind.

The relay talks to it over a Unix socket as to any other upstream, so that the native path never loads or waits for litellm.
"""
