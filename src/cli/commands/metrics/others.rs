//! Processes without the library, by program and service: what the kernel says of their descriptors.
#![forbid(unsafe_code)]

use super::totals::Name;
use crate::pages::obtainable::obtainable;
use crate::pages::snapshot::Snapshot;
use crate::processes::list;
use crate::processes::service;
use std::collections::{BTreeMap, BTreeSet};

/// A process without the library.
#[derive(Clone, Copy, Debug)]
pub struct Other {
    /// How many descriptors are open.
    pub used: u64,
    /// Soft and hard limit on open descriptors.
    pub limits: (u64, u64),
    /// How many it can have.
    pub obtainable: u64,
}

/// All of them, by program and service.
pub type Others = BTreeMap<Name, Vec<Other>>;

/// Every process that is not among the guarded ones, except kernel threads, which have no descriptors, and this one.
pub fn all(guarded: &[Snapshot]) -> Others {
    let guarded: BTreeSet<u32> = guarded.iter().map(|snapshot| snapshot.pid).chain([std::process::id()]).collect();
    let mut others = Others::new();
    for process in list::all().into_iter().filter(|process| !guarded.contains(&process.pid)) {
        let (Some(used), Some(limits)) = (process.used, process.limits) else { continue };
        let service = service::remembered(process.pid, process.started).unwrap_or_default();
        let other = Other { used, limits, obtainable: obtainable(process.pid, limits, None) };
        others.entry(Name { program: process.name, service }).or_default().push(other);
    }
    others
}
