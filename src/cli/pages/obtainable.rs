//! How many descriptors a process can have: what every reader, alert and metric measures against. A guarded process that has 805
//! of a soft limit of 1,024 open is well when the library raises that limit to 20,000 the moment that it is hit.
#![forbid(unsafe_code)]

use crate::processes::program;
use crate::system::sysctl;
use tideover_contract::page::View;
use tideover_contract::select;
use tideover_contract::settings::{Id, default_value, raise};

/// How many descriptors a process can have without anybody's help. Without the library that is its soft limit; with it, what
/// the library says in the page, or, if it has not said so yet, how far it would raise the soft limit.
pub fn obtainable(pid: u32, limits: (u64, u64), page: Option<View>) -> u64 {
    let (soft, hard) = limits;
    let Some(page) = page else { return soft };
    match page.obtainable() {
        0 => ceiling(page, soft, hard, program::end_of(pid)),
        said => said.min(highest(hard)).max(soft),
    }
}

/// No limit can be set above fs.nr_open, whatever the hard limit says that was set before fs.nr_open was lowered.
fn highest(hard: u64) -> u64 {
    hard.min(sysctl("fs.nr_open").unwrap_or(u64::MAX))
}

/// How far a library that has not said so would raise the soft limit. `end` is how far the program itself may be raised, see
/// [`select::end`].
fn ceiling(view: View, soft: u64, hard: u64, end: u64) -> u64 {
    let value = |id: Id| view.setting(id as usize).map(|(value, _)| value);
    // A page that is not filled in yet is that of a library with its default settings.
    let mode = value(Id::Raise).unwrap_or(raise::AUTO);
    let cap = value(Id::RaiseCap).unwrap_or(default_value(Id::RaiseCap as usize));
    select::ceiling(soft, highest(hard).max(soft), mode, cap, || end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Page, forge};
    use tideover_contract::page::{FIELDS, state};

    #[test]
    fn a_guarded_process_has_what_the_library_would_raise_to() {
        let mut bytes = forge(7, state::LIVE, 1);
        let at = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).unwrap().1;
        bytes[at("settings_count")] = 30;
        let put = |bytes: &mut [u8], id: Id, value: u64| {
            bytes[at("settings") + id as usize * 8..][..8].copy_from_slice(&value.to_ne_bytes());
        };
        put(&mut bytes, Id::Raise, raise::AUTO);
        put(&mut bytes, Id::RaiseCap, 4000);
        let page = Page::forged(bytes, 7);
        assert_eq!(ceiling(page.view().unwrap(), 1024, 1 << 20, u64::MAX), 4000);
        assert_eq!(ceiling(page.view().unwrap(), 256, 1 << 20, select::FD_SETSIZE), 1024);
        assert_eq!(ceiling(page.view().unwrap(), 256, 512, u64::MAX), 512);
        put(&mut bytes, Id::Raise, raise::OFF);
        assert_eq!(ceiling(Page::forged(bytes, 7).view().unwrap(), 1024, 1 << 20, u64::MAX), 1024);
    }

    #[test]
    fn what_the_library_says_is_believed_within_the_limits() {
        let mut bytes = forge(7, state::LIVE, 1);
        let at = FIELDS.iter().find(|(n, _)| *n == "obtainable").unwrap().1;
        bytes[at..at + 8].copy_from_slice(&20_000u64.to_ne_bytes());
        let page = Page::forged(bytes, 7);
        let of = |soft, hard| obtainable(7, (soft, hard), page.view());
        assert_eq!([of(1024, 1 << 19), of(1024, 4096), of(30_000, 1 << 19)], [20_000, 4096, 30_000]);
        assert_eq!(obtainable(7, (1024, 1 << 19), None), 1024, "nobody raises it");
    }
}
