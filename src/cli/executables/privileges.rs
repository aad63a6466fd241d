//! Will execve(2) set AT_SECURE, so that the loader ignores LD_PRELOAD?
//!
//! The kernel's rule (security/commoncap.c): the new effective user or group differs from the real one, or file
//! capabilities add to what a user other than root has. Bits that a nosuid mount or no_new_privs disarms don't count.
#![forbid(unsafe_code)]

use rustix::fs::{StatVfsMountFlags, getxattr, statvfs};
use rustix::process::{getegid, geteuid, getgid, getuid};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The ids of the process that executes a file.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Real and effective user.
    pub users: (u32, u32),
    /// Real and effective group.
    pub groups: (u32, u32),
    /// prctl(PR_SET_NO_NEW_PRIVS) is on.
    pub no_new_privs: bool,
}

impl Caller {
    /// The ids of this process.
    pub fn me() -> Caller {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Caller {
            users: (getuid().as_raw(), geteuid().as_raw()),
            groups: (getgid().as_raw(), getegid().as_raw()),
            no_new_privs: status.lines().any(|l| l.strip_prefix("NoNewPrivs:").is_some_and(|v| v.trim() == "1")),
        }
    }
}

/// Why the loader would ignore LD_PRELOAD in this file, as the end of a sentence; None if it would not.
pub fn elevation(path: &Path, caller: &Caller) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let trusted = statvfs(path).is_ok_and(|fs| !fs.f_flag.contains(StatVfsMountFlags::NOSUID));
    let mut buffer = [0u8; 64];
    let length = getxattr(path, "security.capability", &mut buffer).unwrap_or(0);
    let file = (metadata.mode(), metadata.uid(), metadata.gid());
    elevation_of(file, trusted, &buffer[..length], caller)
}

fn elevation_of(
    (mode, owner, group): (u32, u32, u32),
    trusted: bool,
    capabilities: &[u8],
    caller: &Caller,
) -> Option<String> {
    let bits_count = trusted && !caller.no_new_privs;
    let user = if bits_count && mode & 0o4000 != 0 { owner } else { caller.users.1 };
    // Set-group-id without group execute means mandatory locking, not a change of group.
    let new_group = if bits_count && mode & 0o2010 == 0o2010 { group } else { caller.groups.1 };
    if user != caller.users.0 {
        return Some(match mode & 0o4000 {
            0 => format!("tideover runs with effective user {user} and real user {}", caller.users.0),
            _ => format!("it is set-uid to user {user}"),
        });
    }
    if new_group != caller.groups.0 {
        return Some(match mode & 0o2000 {
            0 => format!("tideover runs with effective group {new_group} and real group {}", caller.groups.0),
            _ => format!("it is set-gid to group {new_group}"),
        });
    }
    // Root's capabilities come from being root: the file's add nothing and set no AT_SECURE.
    (trusted && caller.users.0 != 0 && grants(capabilities)).then(|| "it has file capabilities".to_string())
}

/// Does the attribute grant a capability? It is a struct vfs_cap_data, little-endian: a word whose lowest bit is
/// "effective", then the words "permitted" and "inheritable", once or twice.
fn grants(data: &[u8]) -> bool {
    let word = |i: usize| data.get(i * 4..i * 4 + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    word(0) & 1 != 0 || word(1) != 0 || word(3) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Caller = Caller { users: (1000, 1000), groups: (1000, 1000), no_new_privs: false };
    const ROOT: Caller = Caller { users: (0, 0), groups: (0, 0), no_new_privs: false };

    #[test]
    fn set_id_bits_count_when_they_change_something() {
        assert!(elevation_of((0o104755, 0, 0), true, b"", &USER).unwrap().contains("set-uid to user 0"));
        assert!(elevation_of((0o102755, 1000, 42), true, b"", &USER).unwrap().contains("set-gid to group 42"));
        assert_eq!(elevation_of((0o104755, 1000, 0), true, b"", &USER), None, "one's own file");
        assert_eq!(elevation_of((0o104755, 0, 0), true, b"", &ROOT), None, "root already");
        assert_eq!(elevation_of((0o104755, 0, 0), false, b"", &USER), None, "nosuid mount");
        assert_eq!(elevation_of((0o104755, 0, 0), true, b"", &Caller { no_new_privs: true, ..USER }), None);
        assert_eq!(elevation_of((0o102745, 0, 42), true, b"", &USER), None, "set-gid without group execute");
        assert!(elevation_of((0o100755, 0, 0), true, b"", &Caller { users: (1000, 0), ..USER }).is_some());
    }

    #[test]
    fn file_capabilities_count_for_users_other_than_root() {
        let ping = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let inheritable_only = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(elevation_of((0o100755, 0, 0), true, &ping, &USER).unwrap().contains("capabilities"));
        assert_eq!(elevation_of((0o100755, 0, 0), true, &ping, &ROOT), None);
        assert_eq!(elevation_of((0o100755, 0, 0), true, &inheritable_only, &USER), None);
        assert_eq!(elevation_of((0o100755, 0, 0), true, &ping[..3], &USER), None, "cut short");
    }
}
