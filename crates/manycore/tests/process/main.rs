//! Processes: started, watched, ended, and never left behind.
//!
//! The tests run this binary again, in a role that an environment variable names.

mod children;
mod command;
mod forkserver;
mod lifeline;
mod support;
mod watch;

/// Does nothing, unless the environment names a role for this process.
#[test]
fn entry() {
    let Ok(role) = std::env::var(support::ROLE) else {
        return;
    };
    let _watchdog = support::Watchdog::new();
    match role.as_str() {
        "children_ignored" => children::ignored(),
        "children_thousand" => children::thousand(),
        "children_without_descriptors" => children::without_descriptors(),
        "command_fds" => command::fds(),
        "lifeline_parent" => lifeline::parent(),
        "lifeline_ancestor" => lifeline::ancestor(),
        "lifeline_graceful" => lifeline::graceful(),
        "lifeline_race" => lifeline::race(),
        "lifeline_siblings" => lifeline::siblings(),
        "server" => forkserver::server(),
        "server_many" => forkserver::many(),
        "server_no_room" => forkserver::no_room(),
        "server_parent" => forkserver::parent(),
        "watch_copy" => watch::copy(),
        other => panic!("no role {other}"),
    }
    manycore::process::exit_at_once(0);
}
