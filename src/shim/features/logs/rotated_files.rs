//! The files of a log that is rotated: app.log becomes app.log.1, app.log.1 becomes app.log.2, and an empty app.log takes its place.
//!
//! Its path leads to the log or to the new file at any time: the old file gets its second name first (link(2)), and then the new one
//! is renamed to the path. Who is killed in between leaves all lines where they are, and the next rotation goes on from there. If a step
//! fails, all is as it was, but for a gap in the numbers.
#![forbid(unsafe_code)]

use libc::{c_int, stat};

use super::cleanup::NAME;
use super::opened::Log;
use crate::os::sys::{self, Errno};
use crate::os::text::Text;

/// Name, behind that of the log, of the new file before it takes the log's place.
const NEW: &[u8] = b".tideover-new";
/// Second name of the old file before it gets its number.
const OLD: &[u8] = b".tideover-old";

/// A step that failed.
pub struct Failed {
    /// What could not be done, for a message; empty: nothing is said.
    pub what: &'static str,
    /// errno; 0: it may succeed at the next write.
    pub errno: Errno,
}

impl Failed {
    /// Somebody else rotates the log now, or has.
    pub const NOT_NOW: Failed = Failed { what: "", errno: 0 };
    /// There is nothing to do, and nothing to say.
    pub const SILENTLY: Failed = Failed { what: "", errno: libc::ENOENT };
}

/// Is this a regular file with one name?
pub fn is_named_one(status: &stat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFREG && status.st_nlink == 1
}

/// Rotates the log of the name `base` in the folder that a descriptor is open on, and that this process has locked. At most `kept` old files
/// are left. Returns a descriptor of the new file, opened with `flags`.
pub fn rotate(log: &Log<'_>, folder: c_int, base: &[u8], kept: u64, flags: c_int) -> Result<c_int, Failed> {
    let files = Files { folder, base };
    // Another process may have rotated it before this one had the lock.
    if !files.is_inode(b"", log.status) {
        return Err(Failed::NOT_NOW);
    }
    files.remove(NEW);
    files.remove(OLD);
    let new = files.create(log.status, flags).map_err(|errno| Failed { what: "create a new file", errno })?;
    let renamed = files
        .number_old(log.status, kept)
        .and_then(|()| files.rename(NEW, b"").map_err(|errno| Failed { what: "rename the new file", errno }));
    if let Err(failed) = renamed {
        files.remove(NEW);
        files.remove(OLD);
        sys::close(new);
        return Err(failed);
    }
    Ok(new)
}

struct Files<'a> {
    folder: c_int,
    /// Name of the log.
    base: &'a [u8],
}

impl Files<'_> {
    /// The name of the log with an ending.
    fn name(&self, ending: &[u8]) -> Result<Text<NAME>, Errno> {
        let mut name = Text::new();
        if name.push(self.base) && name.push(ending) { Ok(name) } else { Err(libc::ENAMETOOLONG) }
    }

    fn stat(&self, ending: &[u8]) -> Result<stat, Errno> {
        sys::stat_in(self.folder, self.name(ending)?.as_c_str())
    }

    fn is_inode(&self, ending: &[u8], of: &stat) -> bool {
        self.stat(ending).is_ok_and(|status| (status.st_dev, status.st_ino) == (of.st_dev, of.st_ino))
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        sys::rename_in(self.folder, self.name(from)?.as_c_str(), self.name(to)?.as_c_str())
    }

    fn remove(&self, ending: &[u8]) {
        if let Ok(name) = self.name(ending) {
            let _ = sys::unlink_in(self.folder, name.as_c_str());
        }
    }

    /// Creates the new file, with the mode and the owner of the old one.
    fn create(&self, old: &stat, flags: c_int) -> Result<c_int, Errno> {
        let name = self.name(NEW)?;
        let flags = flags | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let new = sys::open_in(self.folder, name.as_c_str(), flags, 0o600)?;
        let alike = sys::fstat(new).and_then(|status| {
            if (status.st_uid, status.st_gid) != (old.st_uid, old.st_gid) {
                sys::change_owner(new, old.st_uid, old.st_gid)?;
            }
            sys::change_mode(new, old.st_mode & 0o7777)
        });
        if let Err(errno) = alike {
            self.remove(NEW);
            sys::close(new);
            return Err(errno);
        }
        Ok(new)
    }

    /// Gives the old file its number, 1, besides its name. Those before it get the next higher ones, and the oldest may go.
    fn number_old(&self, old: &stat, kept: u64) -> Result<(), Failed> {
        let failed = |what| move |errno| Failed { what, errno };
        // Who was killed before the last step has come so far.
        if self.is_inode(numbered(1).as_bytes(), old) {
            return Ok(());
        }
        let name = self.name(b"").and_then(|base| Ok((base, self.name(OLD)?)));
        let linked = name.and_then(|(base, second)| sys::link_in(self.folder, base.as_c_str(), second.as_c_str()));
        linked.map_err(failed("give it a second name"))?;
        let mut free = 1;
        while free < kept && self.is_there(free)? {
            free += 1;
        }
        self.is_there(free)?;
        for number in (1..free).rev() {
            let moved = self.rename(numbered(number).as_bytes(), numbered(number + 1).as_bytes());
            moved.map_err(failed("rename an old file"))?;
        }
        self.rename(OLD, numbered(1).as_bytes()).map_err(failed("rename it"))
    }

    /// Is there an old file of this number? The error is that something else has its name.
    fn is_there(&self, number: u64) -> Result<bool, Failed> {
        match self.stat(numbered(number).as_bytes()) {
            Ok(status) if status.st_mode & libc::S_IFMT == libc::S_IFREG => Ok(true),
            Ok(_) => Err(Failed { what: "rename over what is no file", errno: libc::EEXIST }),
            Err(libc::ENOENT) => Ok(false),
            Err(errno) => Err(Failed { what: "look at an old file", errno }),
        }
    }
}

/// `.12`
fn numbered(number: u64) -> Text<8> {
    let mut text = Text::new();
    let _ = text.push(b".");
    let mut unit = 1;
    while number / unit >= 10 {
        unit *= 10;
    }
    while unit > 0 {
        let _ = text.push(&[b'0' + (number / unit % 10) as u8]);
        unit /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        assert_eq!([1, 9, 10, 1000].map(|number| numbered(number).as_str().to_string()), [".1", ".9", ".10", ".1000"]);
    }
}
