//! Whether a file is open for writing anywhere: fcntl(2) F_SETLEASE, which rustix does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Is the file of this descriptor, which is open for reading only, open for writing by any process, or mapped so? The kernel refuses a
/// lease then, also where the process is in another pid namespace. The error is that of a filesystem without leases.
pub fn is_written(file: &impl AsFd) -> io::Result<bool> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_SETLEASE takes a number, and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: F_SETLEASE takes a number, and touches no memory.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Ok(false);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EAGAIN) => Ok(true),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    /// Nobody writes to it any more. Children that other tests have made share their parent's descriptors until they execute a program.
    fn is_soon_unwritten(reader: &File) -> bool {
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !is_written(reader).unwrap()
        })
    }

    #[test]
    fn a_writer_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let reader = File::open(file.path()).unwrap();
        assert!(is_written(&reader).unwrap(), "the temporary file itself is open for writing");
        let path = file.into_temp_path();
        assert!(is_soon_unwritten(&reader));
        let writer = OpenOptions::new().append(true).open(&path).unwrap();
        assert!(is_written(&reader).unwrap());
        drop(writer);
        assert!(is_soon_unwritten(&reader));
    }
}
