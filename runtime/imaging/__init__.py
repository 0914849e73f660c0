"""From any picture to the network's pixels."""
