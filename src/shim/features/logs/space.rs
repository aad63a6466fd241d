//! Is there space again? By what the filesystem says, not by success: twenty appends succeeded on a filesystem with nothing
//! free, in the slack of a last block.

use tideover_contract::settings::Id;

use crate::os::sys;
use crate::state::settings::SETTINGS;

/// BTRFS_SUPER_MAGIC.
const BTRFS: i64 = 0x9123_683e;
const MOST: u64 = 100 << 20;
const PART: u64 = 20;

/// Has the filesystem of this descriptor as much free as going back needs? A quota does not show here. btrfs says that nothing
/// is available while its metadata is crowded, also long after data was removed: there, what is free counts, and the write that
/// follows finds out.
pub fn has_room(fd: i32) -> bool {
    sys::filesystem(fd).is_ok_and(|fs| {
        let free = if fs.kind == BTRFS { fs.unused } else { fs.available };
        free >= high_mark(fs.total, SETTINGS.get(Id::RecoveryFree))
    })
}

/// Free bytes needed to go back: what the user said, or 5 % of the filesystem and at most 100 MiB.
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
