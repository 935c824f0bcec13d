"""A host without a spare NIC: namespaces joined by veth, bridge and tap."""
