//! What of an architecture may only be named in src/shim/arch.

use super::shim;

/// Calls that aarch64 has no numbers for: newer ones, with `at` or `2` in their names, have taken their places.
const OLD_CALLS: &[&str] = &[
    "open",
    "creat",
    "access",
    "stat",
    "lstat",
    "pipe",
    "dup2",
    "poll",
    "select",
    "epoll_create",
    "epoll_wait",
    "eventfd",
    "signalfd",
    "inotify_init",
    "fork",
    "vfork",
    "getdents",
    "readlink",
    "unlink",
    "rename",
    "mkdir",
    "rmdir",
    "mknod",
    "link",
    "symlink",
    "chmod",
    "chown",
    "lchown",
    "utime",
    "utimes",
    "futimesat",
    "time",
    "pause",
    "alarm",
    "getpgrp",
    "arch_prctl",
    "ustat",
    "uselib",
    "sysfs",
];

/// Words that only assembly, or what is as near to it, has.
const ASSEMBLY: &[&str] = &["asm", "global_asm", "naked_asm", "naked", "llvm_asm"];

/// Registers of x86-64 and of AArch64 as their names are written in assembly and in ucontext_t.
const REGISTERS: &[&str] = &[
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "rip",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "eax",
    "ebx",
    "ecx",
    "edx",
    "xmm0",
    "xmm1",
    "gregs",
    "x0",
    "x1",
    "x8",
    "x9",
    "x16",
    "x29",
    "x30",
    "w0",
    "q0",
    "q7",
    "tpidr_el0",
    "regs",
];

/// The words of a line of code.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Why a line of code belongs into src/shim/arch.
fn reason(line: &str) -> Option<String> {
    for word in words(line) {
        let old = word.strip_prefix("SYS_").is_some_and(|call| OLD_CALLS.contains(&call));
        if old || ASSEMBLY.contains(&word) || REGISTERS.contains(&word) || word.starts_with("REG_R") {
            return Some(word.to_string());
        }
        if matches!(word, "target_arch" | "x86_64" | "x86" | "aarch64" | "core_arch") {
            return Some(word.to_string());
        }
    }
    // 4096 is many things; beside the word page or align it is the size of a page, which is 16 or 64 KiB elsewhere.
    let lower = line.to_lowercase();
    let size = words(&lower).any(|word| matches!(word, "4096" | "4095" | "0x1000" | "0xfff" | "!0xfff"));
    let of_a_page = words(&lower).any(|word| word.contains("page") || word.contains("align"));
    (size && of_a_page).then(|| "the size of a page".to_string())
}

#[test]
fn only_arch_names_what_belongs_to_an_architecture() {
    let mut wrong = vec![];
    for (path, code) in shim().iter().filter(|(path, _)| !path.starts_with("src/shim/arch/")) {
        for (number, line) in code.lines().enumerate() {
            // lib.rs declares the module of that name.
            if let Some(reason) = reason(line).filter(|_| !line.trim_start().starts_with("mod ")) {
                wrong.push(format!("{path}:{}: {reason}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} lines belong into src/shim/arch:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn such_names_are_found() {
    for line in [
        "core::arch::global_asm!(include_str!(\"\"))",
        "#[unsafe(naked)]",
        "syscall(libc::SYS_open, path)",
        "#[cfg(target_arch = \"\")]",
        "const PAGE: usize = 4096;",
        "context.uc_mcontext.gregs[libc::REG_RIP as usize]",
        "context.uc_mcontext.regs[30]",
    ] {
        assert!(reason(line).is_some(), "{line}");
    }
    for line in ["syscall(libc::SYS_openat, path)", "pub const ONE_WRITE: usize = 4096;", "let open = path;"] {
        assert!(reason(line).is_none(), "{line}");
    }
}
