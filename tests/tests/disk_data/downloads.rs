//! Downloads and copies that go on where they ended.

use super::*;

/// Serves 200,000 bytes of text, from where it is asked to, until dropped.
struct Server(u16);

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        thread::spawn(move || {
            let body = "the content of a file that is downloaded\n".repeat(5000);
            for client in listener.incoming() {
                let Ok(mut client) = client else { continue };
                let mut request = String::new();
                let mut lines = BufReader::new(client.try_clone().expect("a descriptor is left"));
                while lines.read_line(&mut request).is_ok_and(|n| n > 2) {}
                if request.starts_with("GET /stop") {
                    return;
                }
                let lower = request.to_lowercase();
                let from = lower.split("range: bytes=").nth(1).and_then(|r| r.split('-').next()?.parse().ok());
                let (status, start) = from.map_or(("200 OK", 0), |start: usize| ("206 Partial Content", start));
                let last = body.len() - 1;
                let _ = write!(
                    client,
                    "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
                     Content-Range: bytes {start}-{last}/{}\r\n\r\n{}",
                    body.len() - start,
                    body.len(),
                    &body[start..]
                );
                // Until the client has what it wants, or gives up.
                let _ = client.shutdown(std::net::Shutdown::Write);
                let _ = client.read(&mut [0; 1]);
            }
        });
        Server(port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut client) = TcpStream::connect(("127.0.0.1", self.0)) {
            let _ = client.write_all(b"GET /stop HTTP/1.0\r\n\r\n");
        }
    }
}

/// A download that has got some of it; `name` in full is 200,000 bytes of text.
fn resumed(name: &'static str, run: impl Fn(&Disk, &str) -> Run) -> Both {
    let server = Server::start();
    let text = "the content of a file that is downloaded\n".repeat(1000);
    untouched(
        Kind::Tmpfs,
        0,
        |disk| fs::write(disk.join(name), &text).expect("there is space"),
        |disk| run(disk, &format!("http://127.0.0.1:{}/{name}", server.0)).folder(disk.path()),
        content(name),
    )
}

fn wget(_: &Disk, url: &str) -> Run {
    Run::new(program("wget", "wget")).args(["-q", "-c", "-t", "1", url])
}

fn curl(_: &Disk, url: &str) -> Run {
    Run::new(program("curl", "curl")).args(["-sS", "-C", "-", "-O", url])
}

#[needs(mounts)]
#[test]
fn wget_continues() {
    let both = resumed("archive.txt", wget);
    assert_eq!(both.plain.code(), Some(3), "a file error: {}", both.plain);
}

#[needs(mounts)]
#[test]
fn curl_continues() {
    let both = resumed("archive.txt", curl);
    assert_eq!(both.plain.code(), Some(23), "a write error: {}", both.plain);
}

#[needs(mounts)]
#[test]
fn wget_continues_a_file_that_has_the_name_of_a_log() {
    // What it downloads may well be a log, as text as any: it is data all the same.
    resumed("server.log", wget);
}

#[needs(mounts)]
#[test]
fn curl_continues_a_file_that_has_the_name_of_a_log() {
    resumed("server.log", curl);
}

/// Copies ../text.log, 30,000 bytes of lines, onto the end of there.log, which has a line.
fn copy_that_appends(script: &str) {
    let source = |disk: &Disk| {
        let folder = disk.path().parent().expect("a disk is mounted in a folder");
        fs::write(folder.join("text.log"), "a line of text\n".repeat(2000)).expect("there is space");
        fs::write(disk.join("there.log"), "already there\n").expect("there is space");
    };
    untouched(Kind::Tmpfs, 0, source, sh(&format!("{script}; echo \"exit $?\" >&2")), content("there.log"));
}

#[needs(mounts)]
#[test]
fn copies_that_append_to_a_file_that_has_the_name_of_a_log() {
    copy_that_appends("dd if=../text.log of=there.log bs=4k oflag=append conv=notrunc status=none");
}

#[needs(mounts)]
#[test]
fn rsync_appends_to_a_file_that_has_the_name_of_a_log() {
    program("rsync", "rsync");
    copy_that_appends("rsync --append --inplace ../text.log there.log");
}
