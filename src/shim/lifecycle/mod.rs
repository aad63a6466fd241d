//! Load, fork and exit: what is started and stopped, in which order.

mod load;
mod tables;
