"""What the gateway says of itself: logs (:mod:`.logs`) and numbers (:mod:`.metrics`)."""
