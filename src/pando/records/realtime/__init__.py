"""Events for subscribers, from the change feed: who hears of which change, in the order of commits."""
