//! A TCP connection of this program to itself.
//!
//! A core that slept since the last picture finds the system's code as cold as the program's, and TCP's is the longest way
//! that a picture goes. So it is gone once, by one byte, before the picture comes.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// How long it may take to make: nobody is served meanwhile, and a firewall may let nothing through.
const MAKING: Duration = Duration::from_millis(5);

/// Made when it is wanted first.
#[derive(Default)]
pub(super) enum OwnLine {
    #[default]
    Unmade,
    Ends(TcpStream, TcpStream),
    /// It could not be made, or has broken. Nobody needs it.
    Broken,
}

impl OwnLine {
    /// Sends one byte and takes it, if that is possible without waiting.
    pub(super) fn exercise(&mut self) {
        match self {
            Self::Unmade => {
                *self = make().map_or_else(
                    |error| {
                        log::debug!("no connection to this program itself: {error}");
                        Self::Broken
                    },
                    |(near, far)| Self::Ends(near, far),
                );
            }
            Self::Ends(near, far) => {
                // As pictures are written: in pieces.
                let sent = near.write_vectored(&[IoSlice::new(&[0]), IoSlice::new(&[])]);
                let taken = far.read(&mut [0; 16]);
                let breaks = |error: &io::Error| error.kind() != io::ErrorKind::WouldBlock;
                if [sent, taken].iter().any(|result| result.as_ref().is_err_and(breaks)) {
                    *self = Self::Broken;
                }
            }
            Self::Broken => {}
        }
    }
}

/// Both ends, on the loopback address.
fn make() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, MAKING)?;
    let (far, remote) = listener.accept()?;
    if remote != near.local_addr()? {
        return Err(io::Error::other("another program was faster"));
    }
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        end.set_nonblocking(true)?;
    }
    Ok((near, far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_taken() {
        let mut line = OwnLine::default();
        for _ in 0..1_000 {
            line.exercise();
        }
        let OwnLine::Ends(near, far) = &mut line else { panic!("it was not made, or has broken") };
        near.shutdown(std::net::Shutdown::Write).expect("it is open");
        far.set_nonblocking(false).expect("it is open");
        let mut left = Vec::new();
        far.read_to_end(&mut left).expect("it ends");
        // A busy system may bring the last ones later.
        assert!(left.len() < 10, "{} bytes are left", left.len());
    }

    #[test]
    fn a_line_that_broke_is_left_alone() {
        let mut line = OwnLine::default();
        line.exercise();
        let OwnLine::Ends(near, _) = &line else { panic!("it was not made") };
        near.shutdown(std::net::Shutdown::Both).expect("it is open");
        line.exercise();
        line.exercise();
        assert!(matches!(line, OwnLine::Broken));
    }
}
