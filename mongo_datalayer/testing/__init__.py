"""Contract suites that other people can run: inherit a class and give it its fixture.

They need pytest and pytest-asyncio in ``auto`` mode, which this package does not install.
"""
