//! git, whose reflogs are appended to and are no logs.

use super::*;

fn git(disk: &Disk) -> Run {
    Run::new(program("git", "git"))
        .folder(disk.path())
        .env("HOME", disk.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "2024-01-01T00:00:00Z")
        .env("GIT_COMMITTER_DATE", "2024-01-01T00:00:00Z")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
}

fn repository(disk: &Disk) {
    git(disk).args(["init", "-q", "--template=", "."]).output().passes();
    git(disk).args(["commit", "-q", "--allow-empty", "-m", "first"]).output().passes();
    git(disk).args(["branch", "other"]).output().passes();
}

fn repository_is_sound(disk: &Disk) -> String {
    let fsck = git(disk).args(["fsck", "--full"]).output();
    let log = git(disk).args(["reflog", "show", "--all"]).output();
    fsck.passes();
    format!("{}{}", fsck.stderr, log.stdout)
}

fn second_commit(disk: &Disk) -> Run {
    git(disk).args(["commit", "--allow-empty", "-m", "second"])
}

#[needs(mounts)]
#[test]
fn git_commit() {
    untouched(Kind::Tmpfs, 0, repository, second_commit, repository_is_sound).plain.fails();
    untouched(Kind::Tmpfs, 8192, repository, second_commit, repository_is_sound);
}

#[needs(images)]
#[test]
fn git_commit_on_ext4() {
    untouched(Kind::Ext4, 0, repository, second_commit, repository_is_sound).plain.fails();
}

#[needs(mounts)]
#[test]
fn git_reflog() {
    // Enough entries that a page of the reflog is used up on the full disk; git itself appends to it.
    let many = |disk: &Disk| {
        let script = "i=0; while [ $i -lt 60 ]; do \
                        git -c user.name=t -c user.email=t@example.org update-ref -m \"move $i of many\" \
                        refs/heads/other HEAD 2>&1 >&2; echo \"$i: $?\" >&2; i=$((i + 1)); done";
        Run::new(program("sh", "dash"))
            .folder(disk.path())
            .env("HOME", disk.path())
            .env("GIT_COMMITTER_DATE", "2024-01-01T00:00:00Z")
            .args(["-c", script])
    };
    untouched(Kind::Tmpfs, 0, repository, many, repository_is_sound);
    let append = bash(
        "for i in {1..60}; do echo \"0000000000000000000000000000000000000000 \
         1111111111111111111111111111111111111111 t <t@example.org> 1700000000 +0000\tmove $i\" >> .git/logs/refs/heads/other \
         || echo \"failed $i\" >&2; done",
    );
    untouched(Kind::Tmpfs, 0, repository, append, content(".git/logs/refs/heads/other")).plain.says("failed 60");
}
