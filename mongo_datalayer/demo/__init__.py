"""A Chainlit app to try the data layer with: ``mongo-datalayer demo`` runs it.

``app.py`` is the app itself; Chainlit loads it by its path. ``root/`` becomes its application
root. Nothing here is imported by the library.
"""
