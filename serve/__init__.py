"""From an adapter to a share of traffic: releases, the engine, flags, experiments."""
