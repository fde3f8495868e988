//! `utilizer notify test`: whether a receiver of the agent's configuration can be reached.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::Output;
use crate::agent::AgentArgs;
use crate::command::CommandError;
use crate::terminal::{Cell, Colour, cell, plain, table};

/// What `utilizer notify` is asked for.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test notification to a receiver of a running agent, at once and past all routes.
    ///
    /// Every service of the receiver is called with the agent's own secrets and network, and what it answers is shown. Exit
    /// code 1: one of them did not take it.
    #[command(after_long_help = "Examples:\n  \
        utilizer notify test ops\n  \
        utilizer notify test on-call --unix /run/utilizer/agent.sock")]
    Test(Args),
}

/// What `utilizer notify test` is asked for.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The receiver, as `[[notify.receivers]]` names it.
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    /// One JSON object a line, also on a terminal.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Deserialize)]
struct Answer {
    results: Vec<Json>,
}

/// Runs a subcommand of `utilizer notify`.
pub async fn run(command: NotifyCommand) -> Result<ExitCode, CommandError> {
    let NotifyCommand::Test(args) = command;
    let body = json!({ "receiver": args.receiver });
    let answer: Answer = args.agent.call(Method::POST, "/api/v1/notify/test", Some(&body)).await?;
    let sent = |result: &&Json| result["sent"].as_bool() == Some(true);
    let all = answer.results.iter().filter(sent).count() == answer.results.len();
    Output::new(args.json).show(&answer.results, |paint| {
        if answer.results.is_empty() {
            return "it names no service, so that nobody was told\n".to_owned();
        }
        table(&["SERVICE", "RESULT"], answer.results.iter().map(row).collect(), paint)
    })?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(result: &Json) -> Vec<Cell> {
    let target = plain(result["target"].as_str().unwrap_or_default()).into_owned();
    let said = match result["sent"].as_bool() {
        Some(true) => ("sent".to_owned(), Some(Colour::Green)),
        _ => (plain(result["error"].as_str().unwrap_or("it failed")).into_owned(), Some(Colour::Red)),
    };
    vec![cell(target), said]
}
