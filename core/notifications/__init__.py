"""Notifications: who is told what, when and how; what decides, and what is said. Delivering is the notifier's."""
