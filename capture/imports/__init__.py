"""Logs of other products and of OpenAI-style files as exchanges: one parser for each format, all of them pure."""
