"""The verbs that read the record of a run."""

from __future__ import annotations

from cmbagent_nb.verbs.call import Call
from cmbagent_nb.verbs.declare import LIMIT, NODE, RUN, arg, verb
from cmbagent_nb.verbs.output import Output, rows, stamp, table


@verb("steps", RUN, group="runs")
def steps(call: Call) -> Output:
    """List the steps of a run's plan."""
    return table(
        call.listing("steps", call.run()),
        "step_number title agent status attempts started_at error",
        none="The run has no steps yet.",
    )


@verb("nodes", RUN, group="runs")
def nodes(call: Call) -> Output:
    """List the nodes of a run's graph, with what each knows of itself."""
    columns = "node_id node_type agent status duration_s n_events n_files tokens cost_usd"
    return table(call.listing("nodes", call.run()), columns, none="The run has no nodes yet.")


@verb(
    "events",
    RUN,
    arg("--type", metavar="TYPE", help="only this type, such as model_call or code_exec"),
    NODE,
    arg("--agent", metavar="AGENT", help="only this agent's"),
    LIMIT,
    group="runs",
)
def events(call: Call) -> Output:
    """List what happened in a run, in order."""
    found, options = call.run(), call.options
    frame = call.only(
        call.listing("events", found), found, event_type=options.type, node_id=options.node, agent_name=options.agent
    )
    columns = "execution_order id event_type event_subtype node_id agent_name status started_at duration_ms error"
    return table(frame, columns, limit=options.limit, none="There are no such events.")


@verb("messages", RUN, NODE, arg("--agent", metavar="AGENT", help="only what this agent said"), LIMIT, group="runs")
def messages(call: Call) -> Output:
    """List what the agents said to one another."""
    found, options = call.run(), call.options
    frame = call.only(call.listing("messages", found), found, node_id=options.node, sender=options.agent)
    columns = "id node_id sender recipient created_at content"
    return table(frame, columns, limit=options.limit, none="There are no such messages.")


@verb(
    "files",
    RUN,
    arg("--type", metavar="TYPE", help="only this type: plan, code, data, plot, report, chat, context, log or other"),
    NODE,
    group="runs",
)
def files(call: Call) -> Output:
    """List the files that a run made, every version of them."""
    found, options = call.run(), call.options
    frame = call.only(call.listing("files", found), found, file_type=options.type, node_id=options.node)
    columns = "file_path file_type version size_bytes node_id created_by_agent created_at conflict"
    return table(frame, columns, none="There are no such files.")


@verb(
    "lineage",
    RUN,
    arg("file", metavar="FILE", help="a file of the run, such as plots/tt.png"),
    group="runs",
)
def lineage(call: Call) -> Output:
    """Show how a file came to be: file, code, agent, model call, step, task."""
    from cmbagent_nb.verbs.text import lineage_text

    found = call.run().lineage(call.options.file)
    links = [{**link, "at": None if link["at"] is None else stamp(link["at"])} for link in found]
    return Output(links, lambda: lineage_text(found), display=found)


@verb("costs", RUN, group="runs")
def costs(call: Call) -> Output:
    """List tokens and cost of a run's model calls; a cost that is not known is missing, not zero."""
    frame = call.listing("costs", call.run())
    columns = "node_id agent_name provider model prompt_tokens completion_tokens total_tokens cost_usd created_at"
    listing = table(frame, columns, none="No model was called.")

    def text() -> str:
        if not len(frame):
            return listing.text
        from cmbagent_nb.render.text import count, plural, usd

        lines = rows(frame)
        unknown = sum(line["cost_usd"] is None for line in lines)
        known = sum(line["cost_usd"] or 0.0 for line in lines)
        tokens = count(sum(line["total_tokens"] or 0 for line in lines))
        without = f" and {plural(unknown, 'call')} of unknown cost" if unknown else ""
        return f"{listing.text}\n\n{plural(len(lines), 'call')}, {tokens} tokens, {usd(known)}{without}"

    return Output(frame, text, display=frame)


@verb("history", RUN, NODE, group="runs")
def history(call: Call) -> Output:
    """List the changes of status of a run, its steps and its nodes."""
    found = call.run()
    frame = call.listing("history", found)
    if call.options.node is not None:
        call.only(call.listing("nodes", found), found, node_id=call.options.node)
        frame = frame.where("entity_id", call.options.node)
    columns = "created_at entity_type entity_id from_state to_state transition_reason transitioned_by"
    return table(frame, columns, none="Nothing has changed yet.")


@verb(
    "checkpoints",
    RUN,
    arg("--add", metavar="NAME", help="mark this moment of the run"),
    arg("--prune", type=int, metavar="N", help="drop all but the newest N that have no name"),
    group="runs",
)
def checkpoints(call: Call) -> Output:
    """List the moments of a run that were marked, mark one more, or drop old ones."""
    found = call.run()
    if call.options.add:
        found.checkpoint(call.options.add)
    if call.options.prune is not None:
        found.prune_checkpoints(call.options.prune)
    columns = "id checkpoint_type name node_id journal_position created_at"
    return table(call.listing("checkpoints", found), columns, none="No moment of the run was marked.")


@verb("decisions", RUN, group="runs")
def decisions(call: Call) -> Output:
    """List the gates of a run and how they were answered."""
    columns = "id node_id approval_type title status resolution user_feedback resolved_by resolved_at"
    return table(call.listing("decisions", call.run()), columns, none="The run had no gates.")
