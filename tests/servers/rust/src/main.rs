//! Servers on tokio as they are written.
//!
//!   tokio-servers PORT tokio|current|ends|axum
//!
//! tokio: an accept that failed is noted and tried again. current: the same, on one thread with all tasks. ends: `accept().await?`,
//! as in every tutorial: the first failure ends the server. axum: axum::serve.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

async fn client(mut socket: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while socket.read(&mut buffer).await? > 0 {
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
    Ok(())
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(1024)
}

async fn serve(port: u16, ends: bool) -> io::Result<()> {
    let listener = listen(port)?;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(tokio::spawn(client(socket))),
            Err(e) if ends => return Err(e),
            Err(e) => eprintln!("accept: {e}"),
        }
    }
}

async fn axum(port: u16) -> io::Result<()> {
    let service = axum::Router::new().fallback(|| async { axum::http::StatusCode::NO_CONTENT });
    axum::serve(listen(port)?, service).await
}

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let (port, kind) = (words[1].parse().expect("a port"), words[2].as_str());
    let mut runtime = match kind {
        "current" => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    match kind {
        "axum" => runtime.block_on(axum(port)),
        _ => runtime.block_on(serve(port, kind == "ends")),
    }
}
