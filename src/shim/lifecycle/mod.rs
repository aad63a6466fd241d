//! Load, fork and exit: which parts of the library are started, told and stopped, in which order.

mod load;
mod tables;
