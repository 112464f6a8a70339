//! The socket that a server listens on: made here, or made by another and handed over.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// How many connections wait to be accepted, as many as actix lets wait.
const BACKLOG: i32 = 1024;

/// Listens on an address. One that another server has just left is free.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Why a socket that was handed over cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum NotListening {
    #[error("it is not a TCP socket")]
    NotTcp,
    #[error("it does not listen")]
    Connected,
    #[error("it is no socket: {0}")]
    NoSocket(#[from] rustix::io::Errno),
}

/// Takes a socket for a listener, if that is what it is.
pub fn adopt(socket: OwnedFd) -> Result<TcpListener, NotListening> {
    let is_inet = [AddressFamily::INET, AddressFamily::INET6];
    let is_stream = sockopt::socket_type(&socket)? == SocketType::STREAM;
    if !is_stream || !is_inet.contains(&sockopt::socket_domain(&socket)?) {
        return Err(NotListening::NotTcp);
    }
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(NotListening::Connected);
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn loopback() -> TcpListener {
        listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[test]
    fn a_listening_socket_is_adopted_with_its_address() {
        let made = loopback();
        let address = made.local_addr().unwrap();
        assert_eq!(adopt(made.into()).unwrap().local_addr().unwrap(), address);
        let ipv6 = listen("[::1]:0".parse().unwrap()).unwrap();
        assert!(adopt(ipv6.into()).is_ok());
    }

    #[test]
    fn an_address_that_another_listens_on_is_taken() {
        let made = loopback();
        let error = listen(made.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_does_not_listen_on_tcp_is_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let fault = |socket: OwnedFd| adopt(socket).unwrap_err().to_string();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(fault(udp.into()), "it is not a TCP socket");
        let unix = UnixListener::bind(dir.path().join("socket")).unwrap();
        assert_eq!(fault(unix.into()), "it is not a TCP socket");
        let made = loopback();
        let connected = TcpStream::connect(made.local_addr().unwrap()).unwrap();
        assert_eq!(fault(connected.into()), "it does not listen");
        let file = std::fs::File::create(dir.path().join("file")).unwrap();
        assert!(fault(file.into()).starts_with("it is no socket: "));
    }
}
