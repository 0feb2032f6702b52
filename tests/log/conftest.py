from tests.broker.fixtures import kafka, prefix

__all__ = ["kafka", "prefix"]
