"""Other libraries' searchers as controllers, and our spaces and controllers in theirs; each needs its extra."""
