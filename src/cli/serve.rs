//! `genkan serve`: runs the gateway until it is told to end.

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use super::output::Output;
use super::{ConfigArgs, Status, help};
use crate::protocol::Protocols;
use crate::{gateway, listener, log, tasks};

/// The arguments of `genkan serve`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Run the gateway.\n\n\
        SIGTERM and Ctrl-C end it, after the calls in flight have had their answers.\n\n\
        SIGHUP, or a changed file, reloads routes, limits and listeners without dropping a call; a file \
        with errors is refused whole. GENKAN__HTTP__LISTEN=… overrides any key of the \
        configuration. Logs go to standard error: for people on a terminal, else one JSON object \
        a line.",
    after_help = help::examples(&[
        ("genkan serve", "HTTP on 127.0.0.1:8080 and the admin pages on 127.0.0.1:8081"),
        ("GENKAN__HTTP__LISTEN=0.0.0.0:80 genkan serve -c genkan.toml", "one key from the environment"),
    ])
)]
pub struct Args {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Runs the gateway.
pub fn run(args: Args, output: &Output) -> anyhow::Result<Status> {
    let protocols = Protocols::new();
    let Some((origin, config, problems)) = args.config.load(&protocols.readers(), output)? else {
        return Ok(Status::Fault);
    };
    let log = log::start(config.log).context("cannot start the log")?;
    tasks::log_panics();
    listener::raise_file_limit();
    let workers = config.workers;
    for problem in &problems {
        tracing::warn!(place = %problem.place, problem = problem.message, "dubious configuration");
    }
    let apply_log = |before, next| log.apply(before, next);
    let run = gateway::run(config, origin, &protocols, &apply_log);
    let runtime = runtime(workers)?;
    let ended = runtime.block_on(run);
    // A name server that does not answer, or a disk, would hold the process for as long as it likes.
    runtime.shutdown_background();
    if ended.is_err() && !log.flush() {
        // Nobody reads standard error: to say there why it ended would wait for ever.
        return Ok(Status::Fault);
    }
    ended.map(|()| Status::Done)
}

/// One worker has nobody to share its tasks with. A runtime of one thread keeps no books for that,
/// and runs what is ready in the order in which it became so: more calls are written at once.
fn runtime(workers: usize) -> std::io::Result<Runtime> {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    // A runtime of one thread passes over the number of workers.
    builder.worker_threads(workers).thread_name("genkan").enable_all().build()
}
