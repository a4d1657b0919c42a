"""What ``mongo-datalayer init`` writes: a Chainlit app, or a ChatKit server, to go on from."""
