"""The whole platform on a laptop: infrastructure and our own processes as supervised children.

PostgreSQL, Valkey (Redis), Kafka and Temporal come as wheels. No Docker, no root, nothing installed beyond
`pip install`. For tests, each server is one line:

    async with embedded.postgres.running(tmp_path) as server:
        engine = create_async_engine(server.url("order_db"))

The same for `embedded.valkey.running`, `embedded.kafka.running` and `embedded.temporal.running`;
`embedded.platform.Platform` runs everything. Nothing here is meant for production: deploy/ runs the real clusters.
"""
