"""The two classes of PraisonAI's chat, on MongoDB: put this module in the place of its ``db``."""

from mongo_datalayer.praisonai.data_layer import SQLAlchemyDataLayer
from mongo_datalayer.praisonai.database_manager import DatabaseManager

__all__ = ["DatabaseManager", "SQLAlchemyDataLayer"]
