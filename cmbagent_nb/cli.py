"""The command line: ``cmbagent VERB …``.

| exit status | |
|---|---|
| 0 | done |
| 1 | the run or the skill failed, or something in the way of it |
| 2 | wrong use: an option, a name, a model or a setting that cannot be used |
| 130 | interrupted by Ctrl-C; a run that was being waited for is cancelled |
| 143 | ended by SIGTERM; a run that was being waited for is interrupted and can be resumed |

Results go to stdout, progress and errors to stderr; invisible characters are shown as ⟨U+202E⟩. An error is one line
that says what to do next; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from cmbagent_nb.errors import CMBAgentError
from cmbagent_nb.redaction import scrub
from cmbagent_nb.render.text import visible

if TYPE_CHECKING:
    from cmbagent_nb.workspace import Workspace

PROG = "cmbagent"
INTERRUPTED = 130
TERMINATED = 143


class Terminated(BaseException):
    """The process was asked to end."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        _tolerant(stream)
    before = _on_sigterm()
    try:
        return _execute(words)
    except CMBAgentError as error:
        _fail(error, debug, str(error))
        return error.exit_status
    except KeyboardInterrupt:
        _say("Interrupted.")
        return INTERRUPTED
    except Terminated:
        _say("Terminated.")
        return TERMINATED
    except BrokenPipeError:
        # Whoever read the output has gone, as with `| head`: nothing is wrong. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        what = f"Internal error: {type(error).__name__}: {error}. Run it again with --debug and report what it says."
        _fail(error, debug, what)
        return 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _on_sigterm() -> Any:
    """End in good order at SIGTERM; returns the handler that was there, None where signals are not ours."""

    def end(number: int, frame: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, end)


def _execute(words: list[str]) -> int:
    from cmbagent_nb import verbs

    options = verbs.parser(PROG).parse_args(words)
    workspace: Workspace | None = None
    if options.verb is not None and options.verb.needs_workspace:
        from cmbagent_nb.workspace import Workspace

        workspace = Workspace()
    try:
        output = verbs.execute(workspace, options, say=_say)
        _show(output)
        return output.exit_status
    except Terminated:
        if workspace is not None:
            workspace.host.leave()
        raise
    finally:
        if workspace is not None:
            workspace.close()


def _show(output: Any) -> None:
    text = output.text
    if not output.as_json:
        text = visible(text)
    elif (sys.stdout.encoding or "").lower().replace("-", "") not in ("utf8", "utf16"):
        import json

        text = scrub(json.dumps(output.data, indent=2, allow_nan=False))
    if text:
        print(text)
        sys.stdout.flush()


def _say(line: str) -> None:
    print(visible(scrub(line)), file=sys.stderr, flush=True)


def _fail(error: Exception, debug: bool, text: str) -> None:
    if debug:
        print(scrub("".join(traceback.format_exception(error))), file=sys.stderr)
    line = " ".join(text.split()).replace("%cmbagent", PROG)  # what lies below may speak of the magic
    _say(f"{PROG}: {line}")


def _tolerant(stream: TextIO | Any) -> None:
    """Let a terminal that does not know a character show another in its place."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")


if __name__ == "__main__":
    sys.exit(main())
