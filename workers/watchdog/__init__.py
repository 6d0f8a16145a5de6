"""The watchdog: ends what hangs, and tells someone outside that this machine lives."""
