//! The hold: a file in which a process keeps the lines of its diverted logs until they can be put back into the logs, in order.
//!
//! It outlives its process, so that the next one, or `tideover clean`, can put back what is left. This module is what all of them agree
//! on: the bytes of the file ([`layout`]), the ring of records in it ([`ring`]), and how records are put back so that an interruption
//! at any point loses nothing and doubles at most one piece ([`put_back()`]).
//!
//! Whoever uses it brings a [`Memory`]: the library the mapped file, the command a copy whose changes it also writes.

mod layout;
mod put_back;
mod ring;
mod stage;
#[cfg(test)]
mod tests;

pub use layout::{
    Damage, ENTRY_START, FIRST_NAME, GONE, LOCK_FILE, LOGS, LONGEST_PATH, New, OVERHEAD, entries_in, entry_offset,
    hold_file_name, identity_in, is_hold_file_name, lock_offset, table_end,
};
pub use put_back::{Outcome, PIECE, Target, put_back, settle};
pub use ring::{Held, Place, Record};
pub use stage::{FIRST_SLOT, SLOTS, Staged, slot};

/// The words of a hold's file. Bytes of lines are moved by whoever brings the memory.
pub trait Memory {
    /// How many words there are.
    fn words(&self) -> usize;
    /// The word of this index; 0 beyond the end.
    fn load(&self, word: usize) -> u64;
    /// Stores a word. Stores become visible in the file in the order in which they are made.
    fn store(&self, word: usize, value: u64);
}

/// A hold.
pub struct Hold<M> {
    memory: M,
}

impl<M: Memory> Hold<M> {
    /// What this memory holds, which [`Hold::check`] has not seen yet.
    pub const fn over(memory: M) -> Hold<M> {
        Hold { memory }
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The memory, to copy text to it.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }
}
