"""Runs the command line: ``cmbagent COMMAND …``.

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


#: Seconds after which the process is told again to end, when some library has swallowed what told it.
TELL_AGAIN = 1.0


class Terminated(BaseException):
    """The process was asked to end."""


class _Ending:
    """Whether the process was asked to end: the exception can be lost, or become another, within an import."""

    def __init__(self) -> None:
        self.asked = False
        self.heard = False

    def tell(self, number: int = 0, frame: Any = None) -> None:
        """Handle SIGTERM."""
        if self.heard:
            return
        self.asked = True
        again = threading.Timer(TELL_AGAIN, self._again)
        again.daemon = True
        again.start()
        raise Terminated

    def _again(self) -> None:
        if not self.heard:
            os.kill(os.getpid(), signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        _tolerant(stream)
    ending = _Ending()
    before = _on_sigterm(ending)
    try:
        return _execute(words, ending)
    except CMBAgentError as error:
        if ending.asked:
            return _terminated()
        _fail(error, debug, str(error))
        return error.exit_status
    except KeyboardInterrupt:
        _say("Interrupted.")
        return INTERRUPTED
    except Terminated:
        return _terminated()
    except BrokenPipeError:
        # Whoever read the output has gone, as with `| head`: nothing is wrong. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if ending.asked:  # an import, for one, makes an ImportError of it
            return _terminated()
        what = f"Internal error: {type(error).__name__}: {error}. Run it again with --debug and report what it says."
        _fail(error, debug, what)
        return 1
    finally:
        ending.heard = True
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _terminated() -> int:
    _say("Terminated.")
    return TERMINATED


def _on_sigterm(ending: _Ending) -> Any:
    """End in good order at SIGTERM; returns the handler that was there, None where signals are not ours."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, ending.tell)


def _execute(words: list[str], ending: _Ending) -> int:
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
    except BaseException:
        if ending.asked:
            ending.heard = True
            if workspace is not None:
                workspace._core.host.leave()
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
