"""Provides loggers that mask secrets in everything they write."""

from __future__ import annotations

import logging


class _Redaction(logging.Filter):
    """Masks secrets in the message, the arguments and the traceback of a log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record; none is held back."""
        from cmbagent_nb.redaction import scrub

        record.msg, record.args = scrub(record.getMessage()), None
        if record.exc_info:
            record.exc_text = scrub(logging.Formatter().formatException(record.exc_info))
        return True


_REDACTION = _Redaction()


def redact(logger: logging.Logger) -> None:
    """Mask secrets in what the logger's own handlers write, such as the addresses in the log of a web server."""
    for handler in logger.handlers:
        handler.addFilter(_REDACTION)


def get_logger(name: str) -> logging.Logger:
    """Return the logger ``name``, with secrets masked."""
    logger = logging.getLogger(name)
    logger.addFilter(_REDACTION)  # adding it again changes nothing
    return logger
