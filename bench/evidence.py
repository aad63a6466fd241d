def evidence(): pass
