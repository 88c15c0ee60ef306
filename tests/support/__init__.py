"""What the tests need around the proxy: servers to start, a raw client, a backend that misbehaves on demand, and time."""
