//! Everything that frees descriptors.

use core::ffi::{c_int, c_uint};

use libc::{DIR, FILE};

use super::{closing, closing_many, hooks};

hooks! {
    close(fd: c_int) -> c_int = closing();
    __close(fd: c_int) -> c_int = closing();
    fclose(stream: *mut FILE) -> c_int = closing();
    _IO_fclose(stream: *mut FILE) -> c_int = closing();
    closedir(stream: *mut DIR) -> c_int = closing();
    pclose(stream: *mut FILE) -> c_int = closing_many();
    mq_close(queue: c_int) -> c_int = closing();
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = closing_many();
    closefrom(first: c_int) -> () = closing_many();
    fcloseall() -> c_int = closing_many();
    closelog() -> () = closing_many();
}
