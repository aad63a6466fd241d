//! `watch --guard`: a guard of the programs that the policy file names, in a thread of its own.
#![forbid(unsafe_code)]

use crate::guard::guarding::Guard;
use crate::guard::names::Names;
use crate::guard::state;
use crate::guard::tell::Teller;
use crate::show::failure::{Failure, cause};
use crate::system::ballasts::Ballasts;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{Builder, JoinHandle};

/// A guard that runs beside the watch. Dropping it leaves it running.
pub struct Guards {
    thread: JoinHandle<Result<(), Failure>>,
    stop: UnixStream,
}

impl Guards {
    /// Starts it. Its state is beside the pages in `base`.
    pub fn start(base: &Path, teller: Teller) -> Result<Guards, Failure> {
        let failed = |error: std::io::Error| Failure::failed(format!("no guard can be started: {}", cause(&error)));
        state::raise_own_limit();
        let folder = state::folder(base).map_err(Failure::failed)?;
        let (stopped, stop) = UnixStream::pair().map_err(failed)?;
        let work = move || {
            // Who names a program in the policy file means all of its processes.
            Guard::new(folder, teller, Names::of_policy(), Ballasts::default(), usize::MAX).run(&stopped)
        };
        let thread = Builder::new().name("guard".to_string()).spawn(work).map_err(failed)?;
        Ok(Guards { thread, stop })
    }

    /// Has it ended by itself, which is a failure?
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has it put everything back, and ends it.
    pub fn end(mut self) -> Result<(), Failure> {
        let _ = self.stop.write_all(b"x");
        self.thread
            .join()
            .unwrap_or_else(|_| Err(Failure::failed("the guard has failed; tideover clean puts back what it has left")))
    }
}
