"""What the documents show works as shown: programs run against the gateway, configuration loads, pages are plain."""
