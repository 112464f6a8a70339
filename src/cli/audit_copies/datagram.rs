//! Datagrams to a socket of this machine.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// How long a receiver may leave its queue full.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends all, or fails somewhere in between. It connects each time, so that who takes them
/// may be started again meanwhile.
pub(super) fn send_all(to: &Path, messages: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    for message in messages {
        socket.send(&message).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it is full"),
            _ => error,
        })?;
    }
    Ok(())
}
