"""The REST API's records: what goes in and what comes out, shared by the server and the Python client."""
