"""Contract suites for your own backends, and the mongod that tests run on.

Inherit a suite's class and give it its fixture. You need pytest and pytest-asyncio in ``auto``
mode, which this package does not install.
"""
