"""Sizing of an installation: figures of a machine, and the machines, partitions, disks and cost that a load needs."""
