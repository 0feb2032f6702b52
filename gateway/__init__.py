"""A gateway between the NXCloud telecom platform and a company's own systems.

The way of the data, in the order of the packages:

    request → callbacks → Event → log (journal) → publisher → Kafka topic → fanout → subscriber
"""

__version__ = "0.1.0"
