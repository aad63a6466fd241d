//! A program that is started with another root directory.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Has the command's program start in `root`, which becomes its root and its current directory.
pub fn enter(command: &mut Command, root: &Path) {
    let root = root.to_path_buf();
    // SAFETY: pre_exec runs the closure in the child, which may be a copy of a process with several threads, whose locks
    // other threads may have held; so it may only do what is async-signal-safe. It makes two system calls. rustix turns a
    // path of less than 256 bytes into a C string on the stack; a longer one it allocates, and the commands that come here
    // (`tideover install`) have one thread, so that malloc's lock is free.
    unsafe {
        command.pre_exec(move || {
            rustix::process::chroot(&root)?;
            rustix::process::chdir("/")?;
            Ok(())
        });
    }
}
