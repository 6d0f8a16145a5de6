"""One module per measured claim: `python -m bench.NAME [--json] [--quick]`."""
