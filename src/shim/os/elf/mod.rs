//! What loaded objects import and export, read from their own headers in memory: no lock, no file, no dlsym(3), which waits for another
//! thread's dlopen(3) and replaces the program's dlerror(3) when it finds nothing.

mod exports;
mod format;
mod name;
mod object;
mod started;

pub use exports::Exports;
pub use name::Name;
pub use object::{Object, of_kernel};
pub use started::{libc, main_imports, next, started_with};
