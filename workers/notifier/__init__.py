"""The notifier: matches events and cameras in trouble with rules, and delivers what comes of it."""
