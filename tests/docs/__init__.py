"""The documents: what they show works as shown, and the prose of documents and messages is plain."""
