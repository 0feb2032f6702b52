from tests.broker.fixtures import broker, kafka, prefix, secure_kafka, small_broker, three_nodes

__all__ = ["broker", "kafka", "prefix", "secure_kafka", "small_broker", "three_nodes"]
