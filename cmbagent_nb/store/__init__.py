"""Stores the record: tables, database, writer and journal, and the queries that read them.

Nothing is imported here: each module is imported where it is needed, since SQLAlchemy, pandas
and Alembic take their time.
"""
