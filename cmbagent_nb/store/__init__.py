"""The record: tables, the database, the one writer, the journal, and what is read back.

Nothing is imported here: each module is imported where it is needed, since SQLAlchemy, pandas
and Alembic take their time.
"""
