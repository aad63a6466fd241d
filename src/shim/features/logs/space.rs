//! Is there space again? Told by the free space of the filesystem, not by a write that succeeds: twenty appends succeeded on a
//! filesystem with no free block, in the unused part of the file's last block.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::Id;

use crate::os::sys;
use crate::state::settings::SETTINGS;

/// BTRFS_SUPER_MAGIC, from linux/magic.h.
const BTRFS: i64 = 0x9123_683e;
/// Bytes that are enough on a filesystem of any size.
const MOST: u64 = 100 << 20;
/// What part of the filesystem is enough: one twentieth, 5 %.
const PART: u64 = 20;

/// Is it time to search whether a file that is not diverted is the successor of one that is? Not at each write, since that takes the
/// file's path.
pub fn is_search_due() -> bool {
    /// When to search next, CLOCK_MONOTONIC nanoseconds.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (now, interval) = (sys::now(), SETTINGS.get(Id::RecoveryInterval));
    let due = sys::is_due(NEXT.load(Relaxed), interval, now);
    if due {
        NEXT.store(now + interval, Relaxed);
    }
    due
}

/// Has the filesystem of this descriptor as many bytes free as it takes to write to a diverted log again? A quota does not show here.
/// btrfs says that no space is available while its metadata is nearly full, also long after data was removed: there, free space
/// counts, and the write that follows finds out.
pub fn has_room(fd: i32) -> bool {
    sys::filesystem(fd).is_ok_and(|fs| {
        let free = if fs.kind == BTRFS { fs.unused } else { fs.available };
        free >= high_mark(fs.total, SETTINGS.get(Id::RecoveryFree))
    })
}

/// Free bytes that are enough: TIDEOVER_RECOVERY_FREE (`wanted`), or if that is 0, 5 % of the filesystem and at most 100 MiB.
fn high_mark(total: u64, wanted: u64) -> u64 {
    if wanted != 0 { wanted } else { (total / PART).clamp(1, MOST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_a_part_and_bounded() {
        assert_eq!(high_mark(256 << 10, 0), (256 << 10) / 20);
        assert_eq!(high_mark(1 << 40, 0), MOST);
        assert_eq!(high_mark(1 << 40, 4096), 4096);
        assert_eq!(high_mark(0, 0), 1);
    }
}
